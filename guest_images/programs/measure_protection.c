// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * measure_protection - what private memory costs: a small VMM, whose guest touches, shares and takes back pages
 *
 * usage: measure_protection interrupts PAGES CPU        TLB flushes at CPUs that run no guest, while one on CPU touches
 *                                                       pages for the first time, and takes single pages back
 *        measure_protection populate WAY MIB CPU ..     a guest populates its memory, with a vCPU on each CPU named;
 *                                                       WAY: plain, huge (plain, with huge pages) or private
 *        measure_protection rounds COUNT CPU            one page shared and taken back
 *        measure_protection stretch MIB CPU             how late the scheduler runs a thread on CPU while all is shared
 *                                                       and taken back there, and while the guest does nothing
 *
 * One JSON object of numbers. The guest is a few instructions in 32-bit mode, without paging: the VMM sets the registers
 * that say what to do, so its registers must not be private. Needs /dev/kvm.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "lib/check.h"

#define PAGE 4096u
#define CODE 0x1000u
#define DATA 0x200000u		/* the first page that is measured; huge pages begin here */
#define VCPUS 4
#define CPUS 64
#define PORT_DONE 0xe1
#define PORT_FAILED 0xe2
#define DEADLINE_S 500
#define IDLE_NS 5000000000
#define TICK_NS 1000000		/* how often the watcher wants to run */

/* Series protected-memory: include/uapi/linux/kvm_para.h */
#define HC_ENABLE 13
#define HC_SHARE 14
#define HC_UNSHARE 15

asm(".section .rodata\n"
    ".code32\n"
    "guest_code:\n"
    /* eax, ebx, ecx: a hypercall */
    "call_once:\n"
    "	vmmcall\n"
    "	test %eax, %eax\n"
    "	jnz failed\n"
    "	jmp done\n"
    /* edi: address; ecx: pages to write to */
    "touch:\n"
    "	movb $1, (%edi)\n"
    "	add $4096, %edi\n"
    "	dec %ecx\n"
    "	jnz touch\n"
    "	jmp done\n"
    /* esi: hypercall; ebx, ecx: range; a result above 0 says how much was done */
    "range:\n"
    "	mov %esi, %eax\n"
    "	vmmcall\n"
    "	test %eax, %eax\n"
    "	js failed\n"
    "	jz done\n"
    "	add %eax, %ebx\n"
    "	sub %eax, %ecx\n"
    "	jnz range\n"
    "	jmp done\n"
    /* esi: hypercall; ebx: first page; edi: how many, each by a call of its own */
    "singly:\n"
    "	mov %esi, %eax\n"
    "	mov $1, %ecx\n"
    "	vmmcall\n"
    "	test %eax, %eax\n"
    "	jnz failed\n"
    "	inc %ebx\n"
    "	dec %edi\n"
    "	jnz singly\n"
    "	jmp done\n"
    /* ebx: page; edi: rounds */
    "rounds:\n"
    "	mov $1, %ecx\n"
    "	mov $14, %eax\n"
    "	vmmcall\n"
    "	test %eax, %eax\n"
    "	jnz failed\n"
    "	mov $15, %eax\n"
    "	vmmcall\n"
    "	test %eax, %eax\n"
    "	jnz failed\n"
    "	dec %edi\n"
    "	jnz rounds\n"
    "done:\n"
    "	out %al, $0xe1\n"
    "failed:\n"
    "	out %al, $0xe2\n"
    "guest_code_end:\n"
    ".code64\n"
    ".text\n");
extern const unsigned char guest_code[], guest_code_end[], call_once[], touch[], range[], singly[], rounds[];

struct vcpu {
	int fd, cpu;
	struct kvm_run *run;
	struct kvm_regs regs;	/* what it is to do */
	pthread_barrier_t *start;
};

struct vm {
	int kvm, fd;
	uint64_t bytes;
	unsigned char *ram;
	struct vcpu vcpu[VCPUS];
	unsigned int vcpus;
};

static void stay_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		cannot("stay on one processor");
}

/* --- the VM ------------------------------------------------------------------------------------------------------- */

static void add_vcpu(struct vm *vm, int cpu)
{
	static const struct kvm_segment code = { .limit = 0xffffffff, .selector = 8, .type = 0xb, .present = 1, .db = 1,
						 .s = 1, .g = 1 };
	struct vcpu *const vcpu = &vm->vcpu[vm->vcpus];
	const int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_segment data = code;
	struct kvm_sregs sregs;

	data.selector = 16;
	data.type = 3;
	vcpu->cpu = cpu;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, vm->vcpus++);
	if (vcpu->fd < 0 || size < 0)
		cannot("create a virtual CPU");
	vcpu->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED || ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		cannot("read the virtual CPU's registers");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = 0x33;	/* NE, ET, MP, PE */
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs))
		cannot("set the virtual CPU's registers");
}

/* Memory of that size lies behind DATA. */
static void make_vm(struct vm *vm, uint64_t bytes, int advice)
{
	struct kvm_userspace_memory_region region = { .memory_size = DATA + bytes };
	unsigned char *ram = mmap(NULL, DATA + bytes + DATA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED)
		cannot("map the VM's memory");
	ram = (unsigned char *)(((uintptr_t)ram + DATA - 1) & -(uintptr_t)DATA);
	madvise(ram, DATA + bytes, advice);	/* a kernel without huge pages refuses */
	memcpy(ram + CODE, guest_code, (size_t)(guest_code_end - guest_code));
	vm->bytes = bytes;
	vm->ram = ram;
	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	vm->fd = vm->kvm < 0 ? -1 : ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		cannot("create a VM by /dev/kvm");
	region.userspace_addr = (uintptr_t)ram;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		cannot("give the VM memory");
}

static struct kvm_regs job(const unsigned char *what)
{
	return (struct kvm_regs){ .rip = CODE + (uint64_t)(what - guest_code), .rflags = 2 };
}

static void run(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_SET_REGS, &vcpu->regs) || ioctl(vcpu->fd, KVM_RUN, 0))
		cannot("run the guest");
	if (vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == PORT_DONE)
		return;
	ioctl(vcpu->fd, KVM_GET_REGS, &vcpu->regs);
	fprintf(stderr, "the guest stopped: exit %u, eax %d, ebx %#x, edi %u\n", vcpu->run->exit_reason,
		(int)vcpu->regs.rax, (unsigned int)vcpu->regs.rbx, (unsigned int)vcpu->regs.rdi);
	exit(1);
}

static void call(struct vm *vm, const unsigned char *what, uint64_t number, uint64_t gfn, uint64_t count)
{
	struct vcpu *const vcpu = &vm->vcpu[0];

	vcpu->regs = job(what);
	vcpu->regs.rax = vcpu->regs.rsi = number;
	vcpu->regs.rbx = gfn;
	vcpu->regs.rcx = vcpu->regs.rdi = count;
	run(vcpu);
}

static void protect(struct vm *vm)
{
	call(vm, call_once, HC_ENABLE, 0, 0);
}

static void touch_all(struct vm *vm)
{
	vm->vcpu[0].regs = job(touch);
	vm->vcpu[0].regs.rdi = DATA;
	vm->vcpu[0].regs.rcx = vm->bytes / PAGE;
	run(&vm->vcpu[0]);
}

/* --- interrupts --------------------------------------------------------------------------------------------------- */

/*
 * Line TLB counts what flushes the addresses of a process, at any CPUs. What flushes the kernel's own, at all of them, is
 * in CAL, with other calls: a wakeup is one, at one CPU. So of TLB the most at any CPU without guest is told, of CAL the
 * least.
 */
enum kind { TLB, CALLS, KINDS };
static const char *const labels[] = { "TLB:", "CAL:" };

static void read_interrupts(uint64_t counts[KINDS][CPUS])
{
	FILE *const file = fopen("/proc/interrupts", "re");
	char line[8192];

	memset(counts, 0, sizeof(uint64_t) * KINDS * CPUS);
	while (file && fgets(line, sizeof(line), file)) {
		for (int kind = 0; kind < KINDS; kind++) {
			char *at = strstr(line, labels[kind]);

			if (!at)
				continue;
			at += strlen(labels[kind]);
			for (int column = 0; column < CPUS; column++) {
				char *end;

				counts[kind][column] = strtoull(at, &end, 10);
				if (end == at)
					break;
				at = end;
			}
		}
	}
	if (!file)
		cannot("read /proc/interrupts");
	fclose(file);
}

static void count_interrupts(uint64_t before[KINDS][CPUS], int cpu, uint64_t counts[KINDS])
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t after[KINDS][CPUS];

	read_interrupts(after);
	counts[TLB] = 0;
	counts[CALLS] = UINT64_MAX;
	for (int other = 0; other < cpus && other < CPUS; other++) {
		const uint64_t flushes = after[TLB][other] - before[TLB][other];
		const uint64_t calls = after[CALLS][other] - before[CALLS][other];

		if (other == cpu)
			continue;
		counts[TLB] = flushes > counts[TLB] ? flushes : counts[TLB];
		counts[CALLS] = calls < counts[CALLS] ? calls : counts[CALLS];
	}
}

static void measure_interrupts(uint64_t pages, int cpu)
{
	struct vm vm = { 0 };
	uint64_t before[KINDS][CPUS], touched[KINDS], unshared[KINDS];

	stay_on(cpu);
	make_vm(&vm, pages * PAGE, MADV_NOHUGEPAGE);
	add_vcpu(&vm, cpu);
	protect(&vm);
	read_interrupts(before);
	touch_all(&vm);
	count_interrupts(before, cpu, touched);
	call(&vm, singly, HC_SHARE, DATA / PAGE, pages);
	read_interrupts(before);
	call(&vm, singly, HC_UNSHARE, DATA / PAGE, pages);
	count_interrupts(before, cpu, unshared);
	printf("{\"touch_tlb\":%.3f,\"touch_calls\":%.3f,\"unshare_tlb\":%.3f,\"unshare_calls\":%.3f}\n",
	       1000.0 * touched[TLB] / pages, 1000.0 * touched[CALLS] / pages, 1000.0 * unshared[TLB] / pages,
	       1000.0 * unshared[CALLS] / pages);
}

/* --- populate ----------------------------------------------------------------------------------------------------- */

static void *populate(void *of)
{
	struct vcpu *const vcpu = of;

	stay_on(vcpu->cpu);
	pthread_barrier_wait(vcpu->start);
	run(vcpu);
	return NULL;
}

static void measure_populate(const char *way, uint64_t bytes, char **cpus, unsigned int count)
{
	struct vm vm = { 0 };
	pthread_t threads[VCPUS];
	pthread_barrier_t start;

	make_vm(&vm, bytes, strcmp(way, "huge") ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	for (unsigned int i = 0; i < count; i++)
		add_vcpu(&vm, (int)number_argument((int)count, cpus, (int)i, 0));
	stay_on(vm.vcpu[0].cpu);
	if (!strcmp(way, "private"))
		protect(&vm);
	pthread_barrier_init(&start, NULL, count + 1);
	for (unsigned int i = 0; i < count; i++) {
		vm.vcpu[i].start = &start;
		vm.vcpu[i].regs = job(touch);
		vm.vcpu[i].regs.rdi = DATA + bytes / count * i;
		vm.vcpu[i].regs.rcx = bytes / count / PAGE;
		errno = pthread_create(&threads[i], NULL, populate, &vm.vcpu[i]);
		if (errno)
			cannot("start a thread");
	}
	const uint64_t begun = clock_ns(CLOCK_MONOTONIC);

	pthread_barrier_wait(&start);
	for (unsigned int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	printf("{\"seconds\":%.6f}\n", (double)(clock_ns(CLOCK_MONOTONIC) - begun) / 1e9);
}

/* --- rounds ------------------------------------------------------------------------------------------------------- */

static void measure_rounds(uint64_t count, int cpu)
{
	struct vm vm = { 0 };

	stay_on(cpu);
	make_vm(&vm, 64 * PAGE, MADV_NOHUGEPAGE);
	add_vcpu(&vm, cpu);
	protect(&vm);
	touch_all(&vm);
	const uint64_t begun = clock_ns(CLOCK_MONOTONIC);

	call(&vm, rounds, 0, DATA / PAGE + 32, count);
	printf("{\"microseconds\":%.3f}\n", (double)(clock_ns(CLOCK_MONOTONIC) - begun) / 1e3 / (double)count);
}

/* --- stretch ------------------------------------------------------------------------------------------------------ */

static int watched_cpu;
static uint64_t latest;	/* ns */
static bool over;

/* It comes before all others that want the CPU: it is late by as long as the kernel does not reschedule. */
static void *watch(void *unused)
{
	const struct sched_param first = { .sched_priority = 50 };
	struct timespec next;

	(void)unused;
	stay_on(watched_cpu);
	if (sched_setscheduler(0, SCHED_FIFO, &first))
		cannot("come before all others");
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
		const uint64_t due = (uint64_t)next.tv_sec * 1000000000 + (uint64_t)next.tv_nsec + TICK_NS;

		next.tv_sec = (time_t)(due / 1000000000);
		next.tv_nsec = (long)(due % 1000000000);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		const uint64_t late = clock_ns(CLOCK_MONOTONIC) - due;

		if (late > __atomic_load_n(&latest, __ATOMIC_RELAXED))
			__atomic_store_n(&latest, late, __ATOMIC_RELAXED);
		clock_gettime(CLOCK_MONOTONIC, &next);
	}
	return NULL;
}

static double longest_ms(void)
{
	return (double)__atomic_exchange_n(&latest, 0, __ATOMIC_RELAXED) / 1e6;
}

static void measure_stretch(uint64_t bytes, int cpu)
{
	struct vm vm = { 0 };
	pthread_t thread;
	double idle, share, unshare;

	stay_on(cpu);
	make_vm(&vm, bytes, MADV_NOHUGEPAGE);
	add_vcpu(&vm, cpu);
	protect(&vm);
	touch_all(&vm);
	watched_cpu = cpu;
	errno = pthread_create(&thread, NULL, watch, NULL);
	if (errno)
		cannot("start a thread");
	uint64_t begun = clock_ns(CLOCK_MONOTONIC);

	call(&vm, range, HC_SHARE, DATA / PAGE, bytes / PAGE);
	share = longest_ms();
	call(&vm, range, HC_UNSHARE, DATA / PAGE, bytes / PAGE);
	unshare = longest_ms();
	const uint64_t taken = clock_ns(CLOCK_MONOTONIC) - begun;

	/* Nothing but the guest's own work: what the emulation is late by anyway. */
	for (begun = clock_ns(CLOCK_MONOTONIC); clock_ns(CLOCK_MONOTONIC) - begun < (taken < IDLE_NS ? taken : IDLE_NS);)
		touch_all(&vm);
	idle = longest_ms();
	__atomic_store_n(&over, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("{\"share\":%.3f,\"unshare\":%.3f,\"idle\":%.3f,\"seconds\":%.3f}\n", share, unshare, idle,
	       (double)taken / 1e9);
}

int main(int argc, char **argv)
{
	const char *const what = argc > 3 ? argv[1] : "";
	const uint64_t size = argc > 3 ? number_argument(argc, argv, 2 + !strcmp(what, "populate"), 0) : 0;
	const int cpu = argc > 3 ? (int)number_argument(argc, argv, argc - 1, 0) : 0;

	alarm(DEADLINE_S);	/* a guest that never stops ends the program */
	if (!strcmp(what, "interrupts") && size)
		measure_interrupts(size, cpu);
	else if (!strcmp(what, "populate") && size && argc > 4 && argc - 4 <= VCPUS)
		measure_populate(argv[2], size << 20, argv + 4, (unsigned int)argc - 4);
	else if (!strcmp(what, "rounds") && size)
		measure_rounds(size, cpu);
	else if (!strcmp(what, "stretch") && size)
		measure_stretch(size << 20, cpu);
	else {
		fprintf(stderr, "usage: measure_protection interrupts PAGES CPU | populate plain|huge|private MIB CPU .. |"
				" rounds COUNT CPU | stretch MIB CPU\n");
		return 2;
	}
	return 0;
}
