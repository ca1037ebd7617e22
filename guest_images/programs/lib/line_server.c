// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include "line_server.h"

static void text_reserve(struct text *t, size_t more)
{
	if (t->cap - t->len > more)
		return;
	t->cap = (t->len + more) * 2 + 256;
	t->data = realloc(t->data, t->cap);
	if (!t->data) {
		fputs("out of memory\n", stderr);
		exit(3);
	}
}

void text_add_bytes(struct text *t, const void *bytes, size_t len)
{
	text_reserve(t, len);
	memcpy(t->data + t->len, bytes, len);
	t->len += len;
}

void text_add(struct text *t, const char *format, ...)
{
	va_list args, again;

	va_start(args, format);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, format, args);

	if (len > 0) {
		text_reserve(t, (size_t)len);
		vsnprintf(t->data + t->len, (size_t)len + 1, format, again);
		t->len += (size_t)len;
	}
	va_end(again);
	va_end(args);
}

void text_add_hex(struct text *t, const void *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *b = bytes;

	text_reserve(t, 2 * len);
	for (size_t i = 0; i < len; i++) {
		t->data[t->len++] = digits[b[i] >> 4];
		t->data[t->len++] = digits[b[i] & 15];
	}
}

void text_add_string(struct text *t, const char *s)
{
	text_add(t, "\"");
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			text_add(t, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			text_add(t, "\\u%04x", c);
		else
			text_add(t, "%c", c);
	}
	text_add(t, "\"");
}

void text_add_errno(struct text *t, int err)
{
	const char *name = strerrorname_np(err);

	if (name)
		text_add(t, "\"errno\":\"%s\",\"errno_nr\":%d", name, err);
	else
		text_add(t, "\"errno\":\"errno %d\",\"errno_nr\":%d", err, err);
}

void reply_error(struct text *t, const char *what)
{
	text_add(t, "{\"error\":");
	text_add_string(t, what);
	text_add(t, "}");
}

void reply_errno(struct text *t, const char *what, int err)
{
	text_add(t, "{\"error\":");
	text_add_string(t, what);
	text_add(t, ",");
	text_add_errno(t, err);
	text_add(t, "}");
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool parse_number(const char *word, uint64_t *value)
{
	bool minus = *word == '-';
	uint64_t base = 10, v = 0;

	word += minus;
	if (word[0] == '0' && (word[1] == 'x' || word[1] == 'X')) {
		base = 16;
		word += 2;
	}
	if (!*word)
		return false;
	for (; *word; word++) {
		int digit = hex_digit(*word);

		if (digit < 0 || (uint64_t)digit >= base)
			return false;
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, (uint64_t)digit, &v))
			return false;
	}
	*value = minus ? -v : v;
	return true;
}

bool parse_hex(char *word, unsigned char **bytes, size_t *len)
{
	size_t digits = strlen(word);
	unsigned char *out = (unsigned char *)word;

	if (!digits || digits % 2)
		return false;
	for (size_t i = 0; i < digits; i += 2) {
		int high = hex_digit(word[i]), low = hex_digit(word[i + 1]);

		if (high < 0 || low < 0)
			return false;
		out[i / 2] = (unsigned char)(high << 4 | low);
	}
	*bytes = out;
	*len = digits / 2;
	return true;
}

/* Splits in place. Returns the number of words, or MAX_WORDS + 1 when there are more. */
static int split_words(char *line, char *words[MAX_WORDS])
{
	int n = 0;
	char *rest = NULL;

	for (char *w = strtok_r(line, " \t\r", &rest); w; w = strtok_r(NULL, " \t\r", &rest)) {
		if (n == MAX_WORDS)
			return MAX_WORDS + 1;
		words[n++] = w;
	}
	return n;
}

enum after answer(const struct command *commands, char *line, struct text *reply)
{
	char *words[MAX_WORDS];
	int n = split_words(line, words);

	if (n == 0 || n > MAX_WORDS) {
		reply_error(reply, n ? "too many words" : "empty request");
		return GO_ON;
	}
	if (!strcmp(words[0], "quit")) {
		text_add(reply, "{\"bye\":true}");
		return LEAVE;
	}
	for (const struct command *c = commands; c->name; c++) {
		if (strcmp(words[0], c->name))
			continue;
		if (n - 1 < c->min_args || n - 1 > c->max_args)
			reply_error(reply, c->usage);
		else
			c->handle(n - 1, words + 1, reply);
		return GO_ON;
	}
	reply_error(reply, "unknown request");
	return GO_ON;
}

/* Answers each complete line of `in`, and drops what it consumed; wiped, as a reply or request may be secret. */
static enum after answer_lines(const struct command *commands, struct text *in, struct text *out, bool *skipping)
{
	enum after after = GO_ON;
	size_t start = 0;
	char *end;

	while (after == GO_ON && (end = memchr(in->data + start, '\n', in->len - start))) {
		*end = 0;
		if (*skipping)
			reply_error(out, "request too long");
		else if (strlen(in->data + start) != (size_t)(end - in->data) - start)
			reply_error(out, "request with a NUL byte");
		else
			after = answer(commands, in->data + start, out);
		*skipping = false;
		text_add(out, "\n");
		start = (size_t)(end - in->data) + 1;
	}
	memmove(in->data, in->data + start, in->len - start);
	explicit_bzero(in->data + in->len - start, start);
	in->len -= start;
	if (in->len > MAX_LINE) {
		*skipping = true;
		in->len = 0;
	}
	return after;
}

void serve_lines(const struct command *commands, const volatile sig_atomic_t *stop, const sigset_t *waiting)
{
	struct text in = { 0 }, out = { 0 };
	bool skipping = false, open = true;
	size_t sent = 0;

	text_reserve(&in, 1 << 16);
	signal(SIGPIPE, SIG_IGN);
	while (!*stop && (open || sent < out.len)) {
		struct pollfd fds[2] = {
			{ .fd = open ? STDIN_FILENO : -1, .events = POLLIN },
			{ .fd = STDOUT_FILENO, .events = sent < out.len ? POLLOUT : 0 },
		};

		if (ppoll(fds, 2, NULL, waiting) < 0) {
			if (errno == EINTR)
				continue;
			break;
		}
		if (fds[1].revents & (POLLERR | POLLNVAL) || (fds[1].revents & POLLHUP && !(fds[1].revents & POLLOUT)))
			break;
		if (fds[1].revents & POLLOUT) {
			size_t chunk = out.len - sent < WRITE_CHUNK ? out.len - sent : WRITE_CHUNK;
			ssize_t n = write(STDOUT_FILENO, out.data + sent, chunk);

			if (n < 0 && errno != EINTR && errno != EAGAIN)
				break;
			sent += n > 0 ? (size_t)n : 0;
			if (sent == out.len) {
				explicit_bzero(out.data, out.len);
				out.len = sent = 0;
			}
		}
		if (fds[0].revents) {
			text_reserve(&in, 1 << 16);
			ssize_t n = read(STDIN_FILENO, in.data + in.len, 1 << 16);

			if (n < 0 && (errno == EINTR || errno == EAGAIN))
				continue;
			if (n <= 0) {
				open = false;
				continue;
			}
			in.len += (size_t)n;
			if (answer_lines(commands, &in, &out, &skipping) == LEAVE)
				open = false;
		}
	}
}
