// SPDX-License-Identifier: GPL-2.0-or-later
/* What KVM must not do for a VMM: protect memory that is not its guest's alone, or tell and take private registers. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "refusals.h"
#include "handles.h"
#include "interrupts.h"
#include "modes.h"
#include "nested.h"
#include "ranges.h"
#include "replaced.h"
#include "second.h"
#include "walk.h"

#define NO_MEMORY_THERE ((uint64_t)-14)	/* KVM_EFAULT */
#define NOT_OF_THAT_KIND ((uint64_t)-95)	/* KVM_EOPNOTSUPP */
#define LARGE_TRIES 100u
#define FEW_BYTES 65536u		/* that the VMM may lock: less than KVM takes at a time */

/* Memory of a slot that cannot be the guest's alone. */
enum kind { HOLE, HOLE_AT_END, UNWRITABLE, UNWRITABLE_AT_END, UNREADABLE, SHARED_BY_FORK, OF_A_FILE, GROWS, DROPPABLE, MOVED,
	    WATCHED, SEALED, LARGE_AND_HELD, KINDS };

/* What the host side is asked. */
enum { TAKE_AWAY = 0x2000, LOWER_LIMIT, RAISE_LIMIT, ADD_KIND = 0x2100 };

enum { ASK_STATE = 0x3000, SET_STATE, ASK_WRONGLY, ASK_RUN, WIDEN_REGISTERS, KEEP_ANSWERS, COMPARE_ANSWERS, ASK_XCR0, ASK_EVENTS,
       COUNT_REGISTERS, COUNT_UNLISTED, COUNT_SYNCED, OFFER_ANYTHING,
       COUNT_PORT_DATA = 0x7a5b3c4d };	/* none of the four bytes of the last is 0 */

static const struct {
	const char *asked, *kept, *later;
	uint64_t answer;
	bool welcome_later;	/* as a new slot, of which nothing is kept */
} kinds[KINDS] = {
#define KIND(what) "ENABLE with " what, "ENABLE with " what ": reached afterwards", "a new slot of " what
	[HOLE] = { KIND("a hole in the VMM's memory"), NO_MEMORY_THERE },
	[HOLE_AT_END] = { KIND("memory that ends before its slot"), NO_MEMORY_THERE },
	[UNWRITABLE] = { KIND("memory that the VMM may not write"), NOT_OF_THAT_KIND },
	[UNWRITABLE_AT_END] = { KIND("memory whose last page the VMM may not write"), NOT_OF_THAT_KIND },
	[UNREADABLE] = { KIND("memory that the VMM may not read"), NOT_OF_THAT_KIND },
	[SHARED_BY_FORK] = { KIND("memory that children of the VMM share"), NOT_OF_THAT_KIND },
	[OF_A_FILE] = { KIND("a private mapping of a file"), NOT_OF_THAT_KIND },
	[GROWS] = { KIND("memory that grows like a stack"), NOT_OF_THAT_KIND },
	[DROPPABLE] = { KIND("memory that the kernel may drop"), NOT_OF_THAT_KIND },
	[MOVED] = { KIND("memory that the VMM has moved"), NOT_OF_THAT_KIND },
	[WATCHED] = { KIND("memory with a userfaultfd"), IS_BUSY },
	[SEALED] = { KIND("memory that the VMM has sealed"), NO_RIGHT },
	/* KVM finds that out when it has protected another slot, and undoes that. */
	[LARGE_AND_HELD] = { KIND("a large page that a pipe holds"), IS_BUSY, true },
};

/* A request that is to be refused. If it is not, the VMM must still be able to tell. */
static GUEST uint64_t ask_in_vain(void)
{
	const uint64_t result = hypercall(HC_ENABLE, 0, 0);

	if (!result)
		share(&shared, sizeof(shared) / PAGE);
	return result;
}

/* In place of the first request for protection: each of these kinds stands in its way, and then it is gone. */
static GUEST void ask_with_each_kind(void)
{
	fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		service(ADD_KIND + kind);
		tell(kinds[kind].asked, kinds[kind].answer, ask_in_vain());
		tell(kinds[kind].kept, EACH(FAIL_PAGES), reached(RANGE_AT, FAIL_PAGES));
		service(TAKE_AWAY);
	}
}

static GUEST void kinds_are_refused(void)
{
	if (way == PLAIN)
		fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	for (uint32_t kind = 0; kind < KINDS; kind++) {
		tell(kinds[kind].later, way == PLAIN || kinds[kind].welcome_later ? 0 : -kinds[kind].answer,
		     service(ADD_KIND + kind));
		service(TAKE_AWAY);
	}
	tell("reached in the end", way == PLAIN ? EACH(FAIL_PAGES) : 0, reached(RANGE_AT, FAIL_PAGES));
	tell("whole in the end", FAIL_PAGES, whole_pages(RANGE_AT, FAIL_PAGES, OLD_WORD));
}

/* The same for a VMM that may lock next to nothing. */
static GUEST void ask_beyond_limit(void)
{
	fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	service(LOWER_LIMIT);
	tell("ENABLE with next to nothing to lock", NO_MEMORY, ask_in_vain());
	tell("ENABLE with next to nothing to lock: reached afterwards", EACH(FAIL_PAGES), reached(RANGE_AT, FAIL_PAGES));
	service(RAISE_LIMIT);
}

static GUEST void limit_is_heeded(void)
{
	if (way == PLAIN) {	/* the control: what takes no locked memory needs no limit */
		service(LOWER_LIMIT);
		fill_pages(RANGE_AT, FAIL_PAGES, OLD_WORD);
	}
	tell("reached in the end", way == PLAIN ? EACH(FAIL_PAGES) : 0, reached(RANGE_AT, FAIL_PAGES));
	tell("whole in the end", FAIL_PAGES, whole_pages(RANGE_AT, FAIL_PAGES, OLD_WORD));
}

#define BEYOND_MOST 2048u	/* more pages than KVM has ready for the guest */

/* KVM stores for the guest where there is no memory to be had. It must not give the VMM what it has to store instead. */
static GUEST void store_beyond_limit(void)
{
	service(LOWER_LIMIT);
	for (uint64_t page = 0; page < BEYOND_MOST; page++)
		attempt(emulated_store, RANGE_AT + page * PAGE, SECRET);	/* the guest may end here */
	tell("the guest has memory for all that it stores", way == PLAIN, 1);
}

#define OTHER 0x0000123456789abcull
#define OTHER_PRIORITY 0x20u
#define LEFT_PRIORITY 5u	/* as CR8 has it */

const uint32_t secret_msrs[SECRET_MSRS] = { 0xc0000081, MSR_LSTAR, 0xc0000083, 0x175, 0x176, 0xc0000102, 0x17a, 0x402,
				       0x403, 0x1fc, 0xc0000084, 0xc0000103 };

GUEST uint64_t service_with_secrets(uint32_t what, struct kept *kept)
{
	for (unsigned int i = 0; i < SECRET_MSRS; i++)
		write_msr(secret_msrs[i], i < WIDE_MSRS ? SECRET : (uint32_t)SECRET);
	asm volatile("mov %[secret], %%r15\n\tmovq %[secret], %%xmm5\n\tmov %[secret], %%dr0\n\tmov %[secret], %%cr2\n\t"
		     "outl %%eax, %[port]\n\t"
		     "mov %%r15, %[general]\n\tmovq %%xmm5, %[vector]\n\tmov %%dr0, %[debug]\n\tmov %%cr2, %[control]"
		     : [general] "=&r"(kept->general), [vector] "=&r"(kept->vector), [debug] "=&r"(kept->debug),
		       [control] "=&r"(kept->control)
		     : "a"(what), [secret] "r"(SECRET), [port] "N"(PORT_SERVICE) : "r15", "memory");
	kept->specific = 0;
	for (unsigned int i = 0; i < SECRET_MSRS; i++)
		kept->specific += (uint32_t)read_msr(secret_msrs[i]) == (uint32_t)SECRET;
	return *(volatile uint64_t *)&shared.report.answer;
}

GUEST void enable_with_registers(void)
{
	tell("ENABLE with registers", 0, hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* With interrupts on and a task priority. Return: that, and in bit 8 whether they are on, as struct kvm_run has it. */
static GUEST uint64_t ask_what_a_run_leaves(void)
{
	*(volatile uint32_t *)(uint64_t)TASK_PRIORITY = LEFT_PRIORITY << 4;
	asm volatile("sti\n\toutl %%eax, %1\n\tcli" : : "a"(ASK_RUN), "N"(PORT_SERVICE) : "memory");
	*(volatile uint32_t *)(uint64_t)TASK_PRIORITY = 0;
	return *(volatile uint64_t *)&shared.report.answer;
}

static GUEST void registers_are_not_told(void)
{
	const volatile uint32_t *const task_priority = (uint32_t *)(uint64_t)TASK_PRIORITY;
	struct kept kept;

	tell("interrupts are on, and the task priority, by what KVM_RUN leaves", way == PLAIN ? 0x100 | LEFT_PRIORITY : 0,
	     ask_what_a_run_leaves());
	tell("the local APIC's task priority", 0, *task_priority);
	tell("ioctls that tell a secret, or fail", way == PLAIN ? TELL_SECRET : 0, service_with_secrets(ASK_STATE, &kept));
	tell("ioctls that do not take what the VMM sets", 0, service_with_secrets(SET_STATE, &kept));
	tell("a general register, set by the VMM", way == PLAIN ? OTHER : SECRET, kept.general);
	tell("a vector register", SECRET, kept.vector);
	tell("a debug register", SECRET, kept.debug);
	tell("a control register", SECRET, kept.control);
	tell("model-specific registers", SECRET_MSRS, kept.specific);
	tell("the local APIC's task priority, set by the VMM", way == PLAIN ? OTHER_PRIORITY : 0, *task_priority);
	tell("ioctls that answer a wrong question otherwise", 0, service_with_secrets(ASK_WRONGLY, &kept));
	tell("a general register afterwards", SECRET, kept.general);
}

#define OTHER_SELECTOR_BASE 0x5000000u
#define MSR_FS_BASE 0xc0000100u
#define MSR_EFER 0xc0000080u
#define SYSCALLS 1u	/* in it */
#define CHECKS_ALIGNMENT 0x40000u	/* in CR0 and in the flags; in ring 3 alone */
#define DEBUG_EXTENSIONS 8u	/* in CR4 */
#define WRITE_THROUGH 8u	/* in CR3 */
#define LOCAL_AND_GLOBAL 0x300u	/* in DR7, for breakpoints that there are not */
#define FPU_CONTROL 0x27fu
#define VECTOR_CONTROL 0x9fc0u

/* Changes some of all that a processor has: each field that an ioctl tells is another one then, or may be. */
static GUEST void change_registers(void)
{
	struct segment_descriptor_table descriptors;
	const uint16_t fpu = FPU_CONTROL;
	const uint32_t vector = VECTOR_CONTROL;

	for (unsigned int i = 0; i < SECRET_MSRS; i++)
		write_msr(secret_msrs[i], i < WIDE_MSRS ? OTHER : (uint32_t)OTHER);
	write_msr(MSR_EFER, read_msr(MSR_EFER) ^ SYSCALLS);
	asm volatile("mov %%ss, %%eax\n\tmov %%eax, %%fs\n\tmov %%eax, %%gs" : : : "rax");
	write_msr(MSR_FS_BASE, OTHER_SELECTOR_BASE);
	asm volatile("sgdt %0" : "=m"(descriptors));
	descriptors.limit += 8;
	asm volatile("lgdt %0" : : "m"(descriptors));
	asm volatile("sidt %0" : "=m"(descriptors));
	descriptors.limit += 16;
	asm volatile("lidt %0" : : "m"(descriptors));
	asm volatile("mov %%cr0, %%rax\n\tor %[alignment], %%eax\n\tmov %%rax, %%cr0\n\t"
		     "mov %%cr4, %%rax\n\tor %[extensions], %%eax\n\tmov %%rax, %%cr4\n\t"
		     "mov $3, %%eax\n\tmov %%rax, %%cr8\n\t"
		     "mov %%dr7, %%rax\n\tor %[breakpoints], %%eax\n\tmov %%rax, %%dr7\n\t"
		     "mov %[root], %%cr3\n\tmov %[root], %%cr2\n\tmov %[root], %%dr1\n\tmovq %[root], %%xmm5\n\t"
		     "fldcw %[fpu]\n\tldmxcsr %[vector]"
		     : : [alignment] "i"(CHECKS_ALIGNMENT), [extensions] "i"(DEBUG_EXTENSIONS),
			 [breakpoints] "i"(LOCAL_AND_GLOBAL), [root] "r"((uint64_t)root | WRITE_THROUGH), [fpu] "m"(fpu),
			 [vector] "m"(vector)
		     : "rax", "memory");
}

static GUEST void widen_and_ask(void)
{
	service(WIDEN_REGISTERS);
	service(ASK_XCR0);	/* KVM_RUN leaves registers where the VMM asks for them */
	enable_with_registers();
}

/* What the VMM is told of registers does not depend on what is in them. */
static GUEST void answers_are_all_alike(void)
{
	if (way == PLAIN)
		service(WIDEN_REGISTERS);
	service(KEEP_ANSWERS);
	change_registers();
	asm volatile("pushf\n\torl %[alignment], (%%rsp)\n\tpopf\n\tmov %[other], %%r15\n\toutl %%eax, %[port]"
		     : : [alignment] "i"(CHECKS_ALIGNMENT), [other] "r"(OTHER), "a"(COMPARE_ANSWERS), [port] "N"(PORT_SERVICE)
		     : "r15", "memory");
	tell("ioctls that answer otherwise when the registers are others, or fail", way == PLAIN ? TELL_SECRET : 0,
	     *(volatile uint64_t *)&shared.report.answer);
	tell("what the VMM is told of XCR0", way == PLAIN ? WIDE : 1, service(ASK_XCR0));
	tell("the VMM is told anything of events", way == PLAIN, service(ASK_EVENTS) != 0);
	tell("KVM_RUN leaves anything where the VMM asks for registers before", way == PLAIN, service(COUNT_SYNCED) != 0);
	tell("the VMM is told what is in a register of all that KVM lists", way == PLAIN, service(COUNT_REGISTERS) != 0);
	tell("the VMM is told what is in a register that KVM does not list", way == PLAIN, service(COUNT_UNLISTED) != 0);
}

/* As firmware does that protects its memory alone; the operating system asks for more, and must not get a yes for it. */
static GUEST void enable_without_registers(void)
{
	tell("ENABLE without registers", 0, hypercall(HC_ENABLE, 0, 0));
	share(&shared, sizeof(shared) / PAGE);
	tell("ENABLE with registers, later", NO_RIGHT, hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* A request for private registers that is refused for the memory's sake: the registers are the VMM's as before. */
static GUEST void ask_for_registers_in_vain(void)
{
	struct kept kept;

	service(ADD_KIND + WATCHED);
	tell("ENABLE with registers and with memory with a userfaultfd", IS_BUSY, hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
	service(TAKE_AWAY);
	tell("ioctls that tell a secret after that, or fail", TELL_SECRET, service_with_secrets(ASK_STATE, &kept));
}

/* What the guest tells a port is gone from the page that the VMM shares with KVM when the VMM has served it. */
static GUEST void port_data_is_cleared(void)
{
	tell("bytes of what the guest told a port that are there when it was served", way == PLAIN ? 4 : 0,
	     service(COUNT_PORT_DATA));
}

static GUEST void registers_are_private_at_first_or_not(void)
{
	struct kept kept;

	tell("ioctls that tell a secret, or fail", TELL_SECRET, service_with_secrets(ASK_STATE, &kept));
}

/* A VMM that names another processor as the one that boots could have that one begin in firmware of its own. */
static GUEST void ask_by_another_than_boots(void)
{
	tell("ENABLE with registers by a processor that does not boot", NO_RIGHT,
	     hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

/* Local APICs of the VMM's would have a processor that is added later run at once. */
static GUEST void ask_without_apic(void)
{
	tell("ENABLE with registers where the VMM has the local APICs", NO_RIGHT,
	     hypercall(HC_ENABLE, PRIVATE_REGISTERS, 0));
}

extern const unsigned char managed_asks[], managed_call[], managed_asks_end[];

/* HC_ENABLE with PRIVATE_REGISTERS. */
asm(".text\n"
    ".code16\n"
    "managed_asks:\n"
    "	mov $13, %eax\n"
    "	mov $1, %ebx\n"
    "	xor %ecx, %ecx\n"
    "managed_call:\n"
    "	vmmcall\n"
    "	mov %eax, %cs:0x8400\n"
    "	rsm\n"
    "managed_asks_end:\n"
    ".code64\n");

static GUEST void ask_in_management(void)
{
	volatile uint32_t *const answer = (uint32_t *)(uint64_t)(SMM_BASE + SMM_ENTRY + 0x400);

	*answer = 0;
	copy_code(MANAGED_AT, managed_asks, managed_asks_end);
	fit_hypercall(MANAGED_AT + (uint64_t)(managed_call - managed_asks));
	service(0);
	tell("ENABLE with registers in system management mode", (uint32_t)NO_RIGHT, *answer);
}

#define HC_WAKE 5	/* KVM_HC_KICK_CPU */
#define NOT_OFFERED ((uint64_t)-1000)	/* KVM_ENOSYS */

static GUEST void ask_for_what_is_withheld(void)
{
	tell("ENABLE where the VMM does not offer it", NOT_OFFERED, ask_in_vain());
	service(OFFER_ANYTHING);
}

static GUEST void what_is_withheld_is_refused(void)
{
	tell("a hypercall of every KVM's that the VMM does not offer", way == PLAIN ? NOT_OFFERED : 0, hypercall(HC_WAKE, 0, 0));
	service(OFFER_ANYTHING);
	tell("the same when the VMM lets the guest ask for anything", 0, hypercall(HC_WAKE, 0, 0));
}

GUEST void nothing_more(void)
{
}

#define MAY_BE_DROPPED 8	/* MAP_DROPPABLE, where the libc does not know it */

/* The request of a guest that is refused in the end leaves nothing behind: another VM of the process may be protected. */
static GUEST void ask_another_when_refused(void)
{
	tell("ENABLE where KVM has an address of the VMM's", NO_RIGHT, hypercall(HC_ENABLE, 0, 0));
	tell("what another VM of the process is told afterwards", 0, service(ASK_UNGIVEN));
}

static unsigned char *odd;	/* memory of that kind, in a slot of its own */
static int pipe_ends[2];	/* of a pipe that holds a page of it; 0: there is none */

/* At the offset in the file that the address is: memory that nobody has moved is at such a place. */
static void map_file(unsigned char *where)
{
	const int file = memfd_create("odd", MFD_CLOEXEC);

	if (file < 0 || ftruncate(file, (off_t)(uintptr_t)where + EXTRA_PAGES * PAGE) ||
	    mmap(where, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file,
		 (off_t)(uintptr_t)where) != where)
		cannot("map a file");
	close(file);
	*(volatile unsigned char *)where = 1;
}

/* The end of a large page, of which a pipe holds one. */
static unsigned char *hold_large(void)
{
	unsigned char *where = map(2 * BIG_BYTES);
	struct iovec page;

	where += -(uintptr_t)where % BIG_BYTES;
	for (unsigned int left = LARGE_TRIES; !make_large(where); left--) {	/* memory may be in pieces for a while */
		if (!left)
			cannot("have a large page");
		usleep(LOOK_US);
	}
	where += BIG_BYTES - EXTRA_PAGES * PAGE;
	page = (struct iovec){ where, PAGE };
	if (pipe2(pipe_ends, O_CLOEXEC) || vmsplice(pipe_ends[1], &page, 1, 0) != (ssize_t)PAGE)
		cannot("have a pipe hold a page");
	return where;
}

static unsigned char *make_odd(enum kind kind)
{
	static const int flags[KINDS] = { [SHARED_BY_FORK] = MAP_SHARED, [GROWS] = MAP_PRIVATE | MAP_GROWSDOWN,
					  [DROPPABLE] = MAY_BE_DROPPED };
	const int ours = flags[kind] ? flags[kind] : MAP_PRIVATE;
	unsigned char *where = mmap(NULL, EXTRA_PAGES * PAGE, PROT_READ | PROT_WRITE, ours | MAP_ANONYMOUS, -1, 0);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { .start = (uintptr_t)where, .len = EXTRA_PAGES * PAGE },
					 .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (where == MAP_FAILED && kind == DROPPABLE && way == PLAIN)	/* Linux before 6.11 has no such memory */
		where = map(EXTRA_PAGES * PAGE);
	if (where == MAP_FAILED)
		cannot("map memory");
	*(volatile unsigned char *)where = 1;	/* what was never written is at home wherever it is moved to */
	switch (kind) {
	case HOLE:
	case HOLE_AT_END:
		if (munmap(where + (kind == HOLE ? PAGE : (EXTRA_PAGES - 1) * PAGE), PAGE))
			cannot("make a hole");
		break;
	case OF_A_FILE:
		map_file(where);
		break;
	case UNWRITABLE:
		if (mprotect(where, EXTRA_PAGES * PAGE, PROT_READ))
			cannot("make memory read-only");
		break;
	case UNWRITABLE_AT_END:
		if (mprotect(where + (EXTRA_PAGES - 1) * PAGE, PAGE, PROT_READ))
			cannot("make a page read-only");
		break;
	case UNREADABLE:
		if (mprotect(where, EXTRA_PAGES * PAGE, PROT_WRITE))
			cannot("make memory write-only");
		break;
	case MOVED:
		where = mremap(where, EXTRA_PAGES * PAGE, EXTRA_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			       map(EXTRA_PAGES * PAGE));
		if (where == MAP_FAILED)
			cannot("move memory");
		break;
	case WATCHED:
		late_page = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
		if (late_page < 0 || ioctl(late_page, UFFDIO_API, &api) || ioctl(late_page, UFFDIO_REGISTER, &range))
			cannot("watch memory by userfaultfd");
		break;
	case SEALED:
		seal(where, EXTRA_PAGES * PAGE);
		break;
	case LARGE_AND_HELD:
		munmap(where, EXTRA_PAGES * PAGE);
		where = hold_large();
		break;
	default:
		break;
	}
	return where;
}

/* Return: why the slot cannot be had, or 0. */
static uint64_t add_odd(const struct vm *vm, enum kind kind)
{
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = EXTRA_SLOT,
						      .memory_size = EXTRA_PAGES * PAGE };

	odd = make_odd(kind);
	region.userspace_addr = (uintptr_t)odd;
	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? (uint64_t)errno : 0;
}

static void take_odd_away(const struct vm *vm)
{
	struct kvm_userspace_memory_region region = { .slot = 3, .guest_phys_addr = EXTRA_SLOT };

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) && errno != EINVAL)	/* there is none */
		cannot("take the slot away");
	munmap(odd, EXTRA_PAGES * PAGE);	/* what is sealed stays */
	if (pipe_ends[0]) {
		close(pipe_ends[0]);
		close(pipe_ends[1]);
	}
	pipe_ends[0] = 0;
	if (late_page)
		close(late_page);
	late_page = 0;
}

/* How much this process may lock; it gives up the right to lock more. */
static void limit_locked(rlim_t bytes)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct rights[2];
	const struct rlimit limit = { bytes, RLIM_INFINITY };

	if (syscall(SYS_capget, &header, rights))
		cannot("read what this process may do");
	rights[CAP_IPC_LOCK / 32].effective &= ~(1u << CAP_IPC_LOCK % 32);
	if (syscall(SYS_capset, &header, rights) || setrlimit(RLIMIT_MEMLOCK, &limit))
		cannot("limit what this process may lock");
}

static uint64_t serve_refusals(struct vm *vm, uint32_t what)
{
	if (what >= ADD_KIND)
		return add_odd(vm, (enum kind)(what - ADD_KIND));
	switch (what) {
	case TAKE_AWAY:
		take_odd_away(vm);
		return 0;
	case LOWER_LIMIT:
		limit_locked(FEW_BYTES);
		return 0;
	case RAISE_LIMIT:	/* the user's other VMs count as well */
		limit_locked(RLIM_INFINITY);
		return 0;
	default:
		return serve_ranges(vm, what);
	}
}

unsigned char *state;

/* In that order the guest counts them: TELL_SECRET. */
static const unsigned long gets[] = { KVM_GET_REGS, KVM_GET_SREGS, KVM_GET_SREGS2, KVM_GET_FPU, KVM_GET_XSAVE, KVM_GET_XSAVE2,
				      KVM_GET_XCRS, KVM_GET_DEBUGREGS, KVM_GET_VCPU_EVENTS, KVM_GET_MSRS };
static const unsigned long sets[] = { KVM_SET_REGS, KVM_SET_SREGS, KVM_SET_SREGS2, KVM_SET_FPU, KVM_SET_XSAVE, KVM_SET_XCRS,
				      KVM_SET_DEBUGREGS, KVM_SET_VCPU_EVENTS, KVM_SET_MP_STATE, KVM_SET_LAPIC,
				      KVM_SET_NESTED_STATE, KVM_SET_MSRS };

static void name_msrs(void)
{
	struct kvm_msrs *const msrs = (struct kvm_msrs *)state;

	msrs->nmsrs = SECRET_MSRS;
	for (unsigned int i = 0; i < SECRET_MSRS; i++)
		msrs->entries[i].index = secret_msrs[i];
}

void have_state(void)
{
	if (state)
		return;
	state = map(STATE_BYTES + PAGE);
	munmap(state + STATE_BYTES, PAGE);
}

uint64_t ask_state(int cpu)
{
	const uint32_t secret = (uint32_t)SECRET;	/* as much as fits into any register */
	uint64_t disclosing = 0, failed = 0;

	for (unsigned int i = 0; i < sizeof(gets) / sizeof(*gets); i++) {
		const int done = gets[i] == KVM_GET_MSRS ? SECRET_MSRS : 0;

		memset(state, 0, STATE_BYTES);
		if (done)
			name_msrs();
		failed |= (uint64_t)(ioctl(cpu, gets[i], state) != done) << i;
		disclosing |= (uint64_t)!!memmem(state, STATE_BYTES, &secret, sizeof(secret)) << i;
	}
	return disclosing | failed << 16;
}

/* The answers of all ioctls that get state, one behind the other. Return: those that fail, a bit each. */
static uint64_t ask_all(int cpu, unsigned char (*answers)[STATE_BYTES])
{
	uint64_t failed = 0;

	for (unsigned int i = 0; i < sizeof(gets) / sizeof(*gets); i++) {
		const int done = gets[i] == KVM_GET_MSRS ? SECRET_MSRS : 0;

		memset(state, 0, STATE_BYTES);
		if (done)
			name_msrs();
		failed |= (uint64_t)(ioctl(cpu, gets[i], state) != done) << i;
		memcpy(answers[i], state, STATE_BYTES);
	}
	return failed;
}

static uint64_t compare_answers(int cpu, bool first)
{
	static unsigned char before[sizeof(gets) / sizeof(*gets)][STATE_BYTES], now[sizeof(gets) / sizeof(*gets)][STATE_BYTES];
	uint64_t different = ask_all(cpu, first ? before : now) << 16;

	for (unsigned int i = 0; !first && i < sizeof(gets) / sizeof(*gets); i++)
		different |= (uint64_t)!!memcmp(before[i], now[i], STATE_BYTES) << i;
	return different;
}

/* Whether the VMM reads a register, and it is not empty. */
static bool is_told(int cpu, uint32_t number)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = { { .nmsrs = 1 }, { .index = number } };

	return ioctl(cpu, KVM_GET_MSRS, &one) == 1 && one.entry.data;
}

/* The registers that KVM lists. */
static const struct kvm_msr_list *listed(const struct vm *vm)
{
	static struct {
		struct kvm_msr_list head;
		uint32_t numbers[1024];
	} list;

	list.head.nmsrs = sizeof(list.numbers) / sizeof(*list.numbers);
	if (ioctl(vm->kvm, KVM_GET_MSR_INDEX_LIST, &list))
		cannot("ask for the registers that KVM has");
	return &list.head;
}

/* Of all that KVM lists, those that the VMM is told. */
static uint64_t count_registers(const struct vm *vm)
{
	const struct kvm_msr_list *const list = listed(vm);
	uint64_t told = 0;

	for (uint32_t i = 0; i < list->nmsrs; i++)
		told += is_told(vm->cpu, list->indices[i]);
	return told;
}

/* Of all others, as KVM tells more than it lists: EFER, machine checks, the base of FS. */
static uint64_t count_unlisted(const struct vm *vm)
{
	static const struct {
		uint32_t first, end;
	} ranges[] = { { 0, 0x1000 }, { 0x40000000, 0x40000200 }, { 0x4b564d00, 0x4b564d10 }, { 0xc0000000, 0xc0000400 },
		       { 0xc0010000, 0xc0010400 } };
	const struct kvm_msr_list *const list = listed(vm);
	uint64_t told = 0;

	for (unsigned int i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		for (uint32_t number = ranges[i].first; number < ranges[i].end; number++) {
			uint32_t at = 0;

			while (at < list->nmsrs && list->indices[at] != number)
				at++;
			told += at == list->nmsrs && is_told(vm->cpu, number);
		}
	}
	return told;
}

static uint64_t ask_xcr0(int cpu)
{
	struct kvm_xcrs xcrs = { 0 };

	if (ioctl(cpu, KVM_GET_XCRS, &xcrs))
		cannot("read which vector registers a virtual CPU has");
	return xcrs.xcrs[0].value;
}

static uint64_t count_bytes(const void *of, size_t size)
{
	const unsigned char *const bytes = of;
	uint64_t count = 0;

	for (size_t i = 0; i < size; i++)
		count += bytes[i] != 0;
	return count;
}

static uint64_t ask_events(int cpu)
{
	struct kvm_vcpu_events events = { 0 };

	if (ioctl(cpu, KVM_GET_VCPU_EVENTS, &events))
		cannot("read which events wait for a virtual CPU");
	return count_bytes(&events, sizeof(events));
}

/* A plain guest gets another value into two registers; a private one what would end any other. */
static uint64_t set_state(const struct vm *vm)
{
	struct kvm_regs *const regs = (struct kvm_regs *)state;
	struct kvm_lapic_state *const apic = (struct kvm_lapic_state *)(state + PAGE);
	uint64_t refused = 0;

	if (way == PLAIN) {
		if (ioctl(vm->cpu, KVM_GET_REGS, regs))
			return 1;
		regs->r15 = OTHER;
		if (ioctl(vm->cpu, KVM_SET_REGS, regs) || ioctl(vm->cpu, KVM_GET_LAPIC, apic))
			return 1;
		*(uint32_t *)(apic->regs + (TASK_PRIORITY - APIC)) = OTHER_PRIORITY;
		return ioctl(vm->cpu, KVM_SET_LAPIC, apic) != 0;
	}
	for (unsigned int i = 0; i < sizeof(sets) / sizeof(*sets); i++) {
		const int done = sets[i] == KVM_SET_MSRS ? SECRET_MSRS : 0;

		memset(state, 0x5a, STATE_BYTES);
		if (done)
			name_msrs();
		refused |= (uint64_t)(ioctl(vm->cpu, sets[i], state) != done) << i;
	}
	return refused;
}

/* Addresses without memory, too many registers, and what is not offered with private registers. */
static uint64_t ask_wrongly(const struct vm *vm)
{
	unsigned char *const end = state + STATE_BYTES;	/* nothing is mapped behind it */
	struct kvm_msrs *const last = (struct kvm_msrs *)(end - sizeof(*last)), *const many = (struct kvm_msrs *)state;
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE };
	const struct {
		unsigned long number;
		void *argument;
		int error;
		bool plain;	/* so in a plain guest too */
	} wrong[] = {
		{ KVM_GET_REGS, NULL, EFAULT, true },
		{ KVM_GET_MSRS, NULL, EFAULT, true },
		{ KVM_SET_REGS, NULL, EFAULT, true },
		{ KVM_SET_SREGS, NULL, EFAULT, true },
		{ KVM_SET_SREGS, end - offsetof(struct kvm_sregs, cr0), EFAULT, true },
		{ KVM_GET_MSRS, last, EFAULT, true },
		{ KVM_GET_MSRS, many, E2BIG, true },
		{ KVM_SET_MSRS, many, E2BIG, true },
		{ KVM_SET_GUEST_DEBUG, &debug, EINVAL, false },
		{ KVM_SMI, NULL, EINVAL, false },
	};
	uint64_t otherwise = 0;

	memset(state, 0, STATE_BYTES);
	last->nmsrs = 1;
	many->nmsrs = 256;	/* Linux: arch/x86/kvm/x86.c MAX_IO_MSRS */
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		if (way == PLAIN && !wrong[i].plain)
			continue;
		if (ioctl(vm->cpu, wrong[i].number, wrong[i].argument) != -1 || errno != wrong[i].error)
			otherwise |= 1ull << i;
	}
	return otherwise;
}

/* The port's access is complete when KVM_RUN begins. Return: how many bytes of it are in the page then. */
static uint64_t count_port_data(const struct vm *vm)
{
	const unsigned char *const data = (unsigned char *)vm->run + vm->run->io.data_offset;
	uint64_t count = 0;

	vm->run->immediate_exit = 1;
	if (!ioctl(vm->cpu, KVM_RUN, 0) || errno != EINTR)
		cannot("complete an access to a port");
	vm->run->immediate_exit = 0;
	for (unsigned int i = 0; i < sizeof(uint32_t); i++)
		count += data[i] != 0;
	return count;
}

static uint64_t serve_state(struct vm *vm, uint32_t what)
{
	have_state();
	switch (what) {
	case ASK_STATE:
		return ask_state(vm->cpu);
	case SET_STATE:
		return set_state(vm);
	case COUNT_PORT_DATA:
		return count_port_data(vm);
	case WIDEN_REGISTERS:
		widen(vm->cpu);
		vm->run->kvm_valid_regs = KVM_SYNC_X86_VALID_FIELDS;
		return 0;
	case KEEP_ANSWERS:
	case COMPARE_ANSWERS:
		return compare_answers(vm->cpu, what == KEEP_ANSWERS);
	case ASK_XCR0:
		return ask_xcr0(vm->cpu);
	case ASK_EVENTS:
		return ask_events(vm->cpu);
	case COUNT_SYNCED:
		return count_bytes(&vm->run->s.regs, sizeof(vm->run->s.regs));
	case COUNT_REGISTERS:
		return count_registers(vm);
	case COUNT_UNLISTED:
		return count_unlisted(vm);
	case ASK_RUN:
		return vm->run->cr8 | (uint64_t)vm->run->if_flag << 8 | (uint64_t)vm->run->flags << 16;
	default:
		return ask_wrongly(vm);
	}
}

static uint64_t serve_withheld(struct vm *vm, uint32_t what)
{
	(void)what;
	let_ask(vm, true);
	return 0;
}

static uint64_t serve_refused_state(struct vm *vm, uint32_t what)
{
	return what >= ASK_STATE ? serve_state(vm, what) : serve_refusals(vm, what);
}

const struct row refusals_rows[] = {
	{ "kinds", kinds_are_refused, .operands = NULL, .serve = serve_refusals, .first = ask_with_each_kind },
	{ "limit", limit_is_heeded, .operands = NULL, .serve = serve_refusals, .first = ask_beyond_limit },
	{ "limit-store", store_beyond_limit, .operands = NULL, .serve = serve_refusals, .first = ask_beyond_limit,
	  .refused = true, .meets = LOWER_LIMIT },
	{ "registers", registers_are_not_told, .operands = NULL, .serve = serve_state, .first = enable_with_registers },
	{ "answers", answers_are_all_alike, .operands = NULL, .serve = serve_state, .first = widen_and_ask },
	{ "registers-later", registers_are_private_at_first_or_not, .operands = NULL, .serve = serve_state,
	  .first = enable_without_registers },
	{ "registers-refused", registers_are_private_at_first_or_not, .operands = NULL, .serve = serve_refused_state,
	  .first = ask_for_registers_in_vain },
	{ "port-data", port_data_is_cleared, .operands = NULL, .serve = serve_state, .first = enable_with_registers },
	{ "second-boots", nothing_more, .operands = operands, .pages = 1, .first = ask_by_another_than_boots, .second = true,
	  .second_boots = true },
	{ "no-apic", nothing_more, .operands = operands, .pages = 1, .first = ask_without_apic, .no_apic = true,
	  .apic_base = APIC | APIC_ENABLED | APIC_BOOTS },	/* else one that is not there is not in its place either */
	{ "asks-managed", nothing_more, .operands = operands, .pages = 1, .first = ask_in_management, .serve = raise_smi },
	{ "withheld", what_is_withheld_is_refused, .operands = operands, .pages = 1, .first = ask_for_what_is_withheld,
	  .serve = serve_withheld, .withholds = true },
	{ "given-management", nothing_more, .operands = operands, .pages = 1, .given = { MSR_SMBASE, 0x40000 } },
	{ "given-save-area", nothing_more, .operands = operands, .pages = 1, .given = { MSR_SAVE_AREA, 0x50000 } },
	{ "given-nested", nothing_more, .operands = operands, .pages = 1, .given = { NESTED_STATE, 0x60000 } },
	{ "given-another", nothing_more, .operands = operands, .pages = 1, .serve = ask_another,
	  .first = ask_another_when_refused, .given = { MSR_SMBASE, 0x40000 } },
	{ .name = NULL },
};
