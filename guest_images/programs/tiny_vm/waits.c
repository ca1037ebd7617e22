// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What one processor does while the guest's request for private registers, or the machine's reset, waits for another one:
 * that one needs a page that the VMM keeps back (userfaultfd).
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "waits.h"
#include "looks.h"
#include "refusals.h"
#include "reset.h"
#include "second.h"
#include "shutdown.h"

#define BEGUN_OFFSET 0x100u	/* behind FIRMWARE_VECTOR: whether its code has begun */
#define CALLS_AT 15u		/* where the hypercall is in code of serve_before() */
#define HELD_AT 0xf1000u	/* memory that is shared from the start, which the second processor loads from */

/* What the host side is asked. */
enum { RUN_ACROSS = 0xc000, LOOK_ACROSS, BEGAN_ACROSS };

enum { HOLD_SECOND = 0xd000, RESET_WITH_START_PENDING, RESET_DURING_CALL, RESET_WHILE_STEERED };

enum { ASK_BEFORE = 0xe000, CAME_BEFORE };

#define CALL_LEADS_TO 0xebf4u	/* by the page that the VMM gives back */
#define RETURNS_TO (STORED_AT + 0xeu)	/* where the call stores where it comes from */

/* The VMM has sent INIT and STARTUP before, and lets the processor run when all others have to forget. */
static GUEST void run_second_across_enable(void)
{
	service(RUN_ACROSS);
	enable_with_registers();
}

static GUEST void second_does_not_run_across(void)
{
	if (way == PLAIN)
		service(RUN_ACROSS);
	else
		tell("the VMM lets the second processor run while the request waits", 1, service(BEGAN_ACROSS));
	keep_a_secret();
	tell("what the VMM's code has of the guest's memory after the request", way == PLAIN ? SECRET_WORD : 0,
	     service(LOOK_ACROSS));
}

extern const unsigned char waiting_code[], waiting_end[];

asm(".text\n"
    ".code16\n"
    "waiting_code:\n"
    "	mov $0xf100, %bx\n"	/* HELD_AT / 16 */
    "	mov %bx, %ds\n"
    "	mov 0, %eax\n"
    "1:	hlt\n"
    "	jmp 1b\n"
    "waiting_end:\n"
    ".code64\n");

extern const unsigned char calling_code[], calling_end[], called_code[], called_end[];

asm(".text\n"
    ".code16\n"
    "calling_code:\n"
    "	mov $0xf100, %bx\n"	/* HELD_AT / 16 */
    "	mov %bx, %ds\n"
    "	mov $0x1200, %bx\n"	/* STORED_AT / 16 */
    "	mov %bx, %ss\n"
    "	mov $0x10, %sp\n"
    FORCED
    "	call *0\n"
    "calling_end:\n"
    "called_code:\n"
    "1:	hlt\n"
    "	jmp 1b\n"
    "called_end:\n"
    ".code64\n");

/*
 * The host side tells the rest. KVM carries out a call of the processor's: it waits for the VMM, to load where that leads
 * to, and then stores a register.
 */
static GUEST void call_under_way_ends_with_a_reset(void)
{
	*(volatile uint64_t *)(uint64_t)STORED_AT = 0;
	*(volatile uint64_t *)(uint64_t)(STORED_AT + 8) = 0;
	copy_code((START_VECTOR << 12) + CALL_LEADS_TO, called_code, called_end);
	start_second_at(calling_code, calling_end);
	service(HOLD_SECOND);
	service(RESET_DURING_CALL);	/* nobody comes back */
}

/*
 * The host side tells the rest. The VMM has the reset wait before the memory is empty, and meanwhile gives another
 * processor code and registers of its own.
 */
static GUEST void steered_processor_finds_nothing(void)
{
	keep_a_secret();
	service(RESET_WHILE_STEERED);	/* nobody comes back */
}

/* The VMM's code on another processor has asked for protection when the guest does; both wait for the VMM. */
static GUEST void ask_behind_another(void)
{
	service(ASK_BEFORE);
	enable_with_registers();
}

static GUEST void nobody_is_asked_before(void)
{
	if (way != PLAIN)
		tell("another processor's request waits when the guest's comes", 1, service(CAME_BEFORE));
}

/* The host side tells the rest. The processor is in KVM, and must forget its registers first, and then start. */
static GUEST void start_that_is_pending_ends_with_a_reset(void)
{
	start_second_at(waiting_code, waiting_end);
	service(HOLD_SECOND);
	start_second();
	service(RESET_WITH_START_PENDING);	/* nobody comes back */
}

struct meanwhile meanwhile;

static void keep_back(struct kept_back *page_back, unsigned char *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { .start = (uintptr_t)page, .len = PAGE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };

	page_back->page = page;
	page_back->userfault = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (page_back->userfault < 0 || ioctl(page_back->userfault, UFFDIO_API, &api) || madvise(page, PAGE, MADV_DONTNEED) ||
	    ioctl(page_back->userfault, UFFDIO_REGISTER, &range))
		cannot("keep back a page of the VMM's");
}

static void await_fault(const struct kept_back *page_back)
{
	struct uffd_msg message;

	if (read(page_back->userfault, &message, sizeof(message)) != sizeof(message))
		cannot("wait for somebody to ask for a page");
}

static void give_back(const struct kept_back *page_back)
{
	static unsigned char content[PAGE] = { 0xf4, 0xeb, 0xfd };	/* hlt; jmp to it */
	struct uffdio_copy copy = { .dst = (uintptr_t)page_back->page, .src = (uintptr_t)content, .len = PAGE };

	if (ioctl(page_back->userfault, UFFDIO_COPY, &copy))
		cannot("give back a page of the VMM's");
}

/* A thread that no alarm interrupts: these are the first processor's. */
pthread_t start_beside(void *(*run)(void *), struct vm *vm)
{
	sigset_t alarms_alone, before;
	pthread_t thread;

	sigemptyset(&alarms_alone);
	sigaddset(&alarms_alone, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms_alone, &before);
	errno = pthread_create(&thread, NULL, run, vm);
	if (errno)
		cannot("start a thread");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return thread;
}

void await_flag(const volatile bool *what)
{
	const uint64_t end = clock_ns(CLOCK_MONOTONIC) + RUN_US * 1000ull;

	while (!*what && clock_ns(CLOCK_MONOTONIC) < end)
		usleep(LOOK_US);
}

void wait_ns(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

/* Until it comes to its port. */
static void *run_second_beside(void *of)
{
	struct vm *const vm = of;
	int result;

	do {
		result = ioctl(vm->second, KVM_RUN, 0);
	} while (result && (errno == EAGAIN || errno == EINTR) && !meanwhile.stops);
	meanwhile.ran = !result && vm->second_run->exit_reason == KVM_EXIT_IO && vm->second_run->io.port == PORT_SECOND;
	return NULL;
}

void *run_third_beside(void *of)
{
	const struct vm *const vm = of;
	int result;

	do {
		result = ioctl(vm->third, KVM_RUN, 0);
	} while (result && (errno == EAGAIN || errno == EINTR));
	meanwhile.third_ran = !result && vm->third_run->exit_reason == KVM_EXIT_IO && vm->third_run->io.port == PORT_SECOND;
	return NULL;
}

/* A processor that is as KVM has made it: the VMM is told another place when registers are private. */
static bool registers_are_private(int cpu)
{
	struct kvm_regs regs;

	if (ioctl(cpu, KVM_GET_REGS, &regs))
		cannot("read another processor's registers");
	return regs.rip != (RESET_VECTOR & 0xffff);
}

/* Lets the second processor run while the guest's request waits for the third one, which then gets its page. */
static void *run_across(void *of)
{
	struct vm *const vm = of;
	const volatile bool *const begun = (bool *)(vm->ram + (FIRMWARE_VECTOR << 12) + BEGUN_OFFSET);

	while (way != PLAIN && !registers_are_private(vm->second))
		usleep(LOOK_US);
	wait_ns(COMES_NS);
	meanwhile.began = !meanwhile.over;
	meanwhile.second = start_beside(run_second_beside, vm);
	await_flag(begun);
	give_back(&meanwhile.last);
	return NULL;
}

static uint64_t serve_across(struct vm *vm, uint32_t what)
{
	/*
	 * movb $1, %cs:BEGUN_OFFSET; mov $STORED_AT / 16, %bx; mov %bx, %ds; until it is SECRET_WORD: mov 0, %eax; then
	 * out %eax, $PORT_SECOND; hlt
	 */
	static const unsigned char firmware[] = { 0x2e, 0xc6, 0x06, BEGUN_OFFSET & 0xff, BEGUN_OFFSET >> 8, 1,
						  0xbb, STORED_AT >> 4 & 0xff, STORED_AT >> 12, 0x8e, 0xdb, 0x66, 0xa1, 0, 0,
						  0x66, 0x3d, SECRET_WORD & 0xff, SECRET_WORD >> 8 & 0xff,
						  SECRET_WORD >> 16 & 0xff, SECRET_WORD >> 24, 0x75, 0xf4,
						  0x66, 0xe7, PORT_SECOND, 0xf4 };
	const struct vm third = { .cpu = vm->third };

	switch (what) {
	case RUN_ACROSS:
		memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
		send_message(vm, 1, DELIVER_INIT);
		send_message(vm, 1, DELIVER_STARTUP | FIRMWARE_VECTOR);
		keep_back(&meanwhile.last, vm->readonly + PAGE);
		set_mode(&third, MODE64, (void *)(uintptr_t)(SLOT_READONLY + PAGE));
		let_run(vm->third);
		start_beside(run_third_beside, vm);
		await_fault(&meanwhile.last);
		start_beside(run_across, vm);
		return 0;
	case LOOK_ACROSS:
		meanwhile.over = true;
		await_flag(&meanwhile.ran);
		return meanwhile.ran ? *(uint32_t *)((unsigned char *)vm->second_run + vm->second_run->io.data_offset) : 0;
	default:
		return meanwhile.began;
	}
}

static void *ask_third(void *of)
{
	const struct vm *const vm = of;

	if (ioctl(vm->third, KVM_GET_REGS, meanwhile.last.page))
		cannot("read the third processor's registers");
	return NULL;
}

/* Lets the second processor go on while the reset waits for the third one, which then gets its page. */
static void *go_on_at_reset(void *of)
{
	(void)of;
	wait_ns(COMES_NS);
	give_back(&meanwhile.first);
	await_flag(&meanwhile.ran);
	meanwhile.waited = !meanwhile.over;
	give_back(&meanwhile.last);
	return NULL;
}

static void hold_second(struct vm *vm)
{
	keep_back(&meanwhile.first, vm->ram + HELD_AT);
	meanwhile.second = start_beside(run_second_beside, vm);
	await_fault(&meanwhile.first);
}

static void stop_second(const struct vm *vm)
{
	meanwhile.stops = true;
	vm->second_run->immediate_exit = 1;
	pthread_kill(meanwhile.second, SIGUSR1);
	pthread_join(meanwhile.second, NULL);
}

static void reset_with_start_pending(struct vm *vm)
{
	pthread_t third, beside;

	have_state();
	keep_back(&meanwhile.last, map(PAGE));
	third = start_beside(ask_third, vm);
	await_fault(&meanwhile.last);
	beside = start_beside(go_on_at_reset, vm);
	reset_by_first(vm);
	meanwhile.over = true;
	pthread_join(beside, NULL);
	pthread_join(third, NULL);
	stop_second(vm);
	vm->over = true;
	vm->after_reset[0] = ask_state(vm->second);
	vm->after_reset[1] = meanwhile.waited;
}

static uint64_t serve_pending(struct vm *vm, uint32_t what)
{
	switch (what) {
	case HOLD_SECOND:
		hold_second(vm);
		return 0;
	default:
		reset_with_start_pending(vm);
		return 0;
	}
}

static void report_pending(struct text *line, const struct vm *vm)
{
	report_hex(line, "the reset waits while the VMM asks another processor for its registers", way != PLAIN,
		   vm->after_reset[1]);
	report_hex(line, "ioctls that tell a secret of the second processor, which the guest has started before",
		   way == PLAIN ? SECOND_TELLS : 0, vm->after_reset[0]);
}

/* The second processor's call goes on while the reset waits, or when it is over. */
static void *call_goes_on(void *of)
{
	(void)of;
	wait_ns(COMES_NS);
	meanwhile.waited = !meanwhile.over;
	give_back(&meanwhile.first);
	wait_ns(COMES_NS);
	return NULL;
}

static uint64_t serve_call(struct vm *vm, uint32_t what)
{
	pthread_t beside;

	if (what == HOLD_SECOND) {
		hold_second(vm);
		return 0;
	}
	beside = start_beside(call_goes_on, vm);
	reset_by_first(vm);
	meanwhile.over = true;
	pthread_join(beside, NULL);
	stop_second(vm);
	vm->over = true;
	vm->after_reset[0] = *(volatile uint16_t *)(vm->ram + RETURNS_TO) != 0;
	vm->after_reset[1] = meanwhile.waited;
	return 0;
}

static void report_call(struct text *line, const struct vm *vm)
{
	report_hex(line, "the reset waits while KVM carries out a call of another processor's", way != PLAIN,
		   vm->after_reset[1]);
	report_hex(line, "the VMM has where that call comes from", way == PLAIN, vm->after_reset[0]);
}

/* The dirty log of a slot goes to a page that the VMM keeps back: no memory slot changes, and nobody is protected. */
static void *read_log_beside(void *of)
{
	const struct vm *const vm = of;
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = meanwhile.last.page };

	if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log))
		cannot("read the dirty log");
	return NULL;
}

/* From now on whoever needs the lock of the memory slots waits. */
static void hold_log(struct vm *vm)
{
	keep_back(&meanwhile.last, map(PAGE));
	start_beside(read_log_beside, vm);
	await_fault(&meanwhile.last);
}

/* Code of the VMM's, in real mode, that hands over a word of the guest's; where the processor has no wish of its own. */
static void *steer_second(void *of)
{
	/* mov $STORED_AT / 16, %bx; mov %bx, %ds; mov 0, %eax; out %eax, $PORT_SECOND; hlt */
	static const unsigned char firmware[] = { 0xbb, STORED_AT >> 4 & 0xff, STORED_AT >> 12, 0x8e, 0xdb, 0x66, 0xa1, 0, 0,
						  0x66, 0xe7, PORT_SECOND, 0xf4 };
	struct vm *const vm = of;
	struct kvm_regs regs = { .rflags = 2 };
	struct kvm_sregs sregs;

	wait_ns(COMES_NS);
	meanwhile.waited = !meanwhile.over;
	memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
	if (ioctl(vm->second, KVM_GET_SREGS, &sregs))
		cannot("read the second processor's registers");
	sregs.cs = segment(FIRMWARE_VECTOR << 12, FIRMWARE_VECTOR << 8, 0xb, MODE16);
	if (ioctl(vm->second, KVM_SET_SREGS, &sregs) || ioctl(vm->second, KVM_SET_REGS, &regs))
		cannot("set the second processor's registers");
	let_run(vm->second);
	meanwhile.second = start_beside(run_second_beside, vm);
	await_flag(&meanwhile.ran);
	stop_second(vm);
	if (meanwhile.ran)
		meanwhile.word = *(uint32_t *)((unsigned char *)vm->second_run + vm->second_run->io.data_offset);
	give_back(&meanwhile.last);
	return NULL;
}

static uint64_t serve_steered(struct vm *vm, uint32_t what)
{
	pthread_t beside;

	(void)what;
	hold_log(vm);
	beside = start_beside(steer_second, vm);
	reset_by_first(vm);
	meanwhile.over = true;
	pthread_join(beside, NULL);
	vm->over = true;
	vm->after_reset[0] = meanwhile.word;
	vm->after_reset[1] = meanwhile.waited;
	return 0;
}

static void report_steered(struct text *line, const struct vm *vm)
{
	report_hex(line, "the reset waits for the VMM", way != PLAIN, vm->after_reset[1]);
	report_hex(line, "what the VMM's code has of the guest's memory meanwhile", way == PLAIN ? SECRET_WORD : 0,
		   vm->after_reset[0]);
}

static void *log_goes_on(void *of)
{
	const struct vm *const vm = of;

	while (!registers_are_private(vm->third))
		usleep(LOOK_US);
	wait_ns(COMES_NS);
	meanwhile.began = !meanwhile.over;
	give_back(&meanwhile.last);
	return NULL;
}

static uint64_t serve_before(struct vm *vm, uint32_t what)
{
	/* movb $1, %cs:BEGUN_OFFSET; mov $HC_ENABLE, %eax; xor %ebx, %ebx; vmmcall; out %al, $PORT_SECOND; hlt */
	static const unsigned char firmware[] = { 0x2e, 0xc6, 0x06, BEGUN_OFFSET & 0xff, BEGUN_OFFSET >> 8, 1,
						  0x66, 0xb8, HC_ENABLE, 0, 0, 0, 0x66, 0x31, 0xdb, 0x0f, 0x01, 0xd9,
						  0xe6, PORT_SECOND, 0xf4 };
	const volatile bool *const begun = (bool *)(vm->ram + (FIRMWARE_VECTOR << 12) + BEGUN_OFFSET);

	if (what == CAME_BEFORE) {
		meanwhile.over = true;
		return meanwhile.began;
	}
	memcpy(vm->ram + (FIRMWARE_VECTOR << 12), firmware, sizeof(firmware));
	fit_hypercall((uintptr_t)vm->ram + (FIRMWARE_VECTOR << 12) + CALLS_AT);
	send_message(vm, 1, DELIVER_INIT);
	send_message(vm, 1, DELIVER_STARTUP | FIRMWARE_VECTOR);
	hold_log(vm);
	meanwhile.second = start_beside(run_second_beside, vm);
	await_flag(begun);
	wait_ns(COMES_NS);	/* from there to its request */
	start_beside(log_goes_on, vm);
	return 0;
}

const struct row waits_rows[] = {
	{ "second-across", second_does_not_run_across, .operands = NULL, .serve = serve_across,
	  .first = run_second_across_enable, .second = true, .third = true },
	{ "reset-pending", start_that_is_pending_ends_with_a_reset, .operands = NULL, .serve = serve_pending,
	  .first = enable_with_registers, .second = true, .third = true, .report = report_pending },
	{ "reset-at-call", call_under_way_ends_with_a_reset, .operands = NULL, .serve = serve_call,
	  .first = enable_with_registers, .second = true, .report = report_call },
	{ "reset-steered", steered_processor_finds_nothing, .operands = NULL, .serve = serve_steered,
	  .first = enable_with_registers, .second = true, .report = report_steered },
	{ "asks-behind", nobody_is_asked_before, .operands = NULL, .serve = serve_before, .first = ask_behind_another,
	  .second = true, .third = true },
	{ .name = NULL },
};
