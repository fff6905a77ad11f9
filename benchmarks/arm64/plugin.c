/* Counts the AArch64 instructions a program retires between two system calls, inside qemu's user-mode emulation.
 *
 * The guest marks a region by getpriority(0, MAGIC) at its beginning and getpriority(0, MAGIC + 1) at its end; neither
 * number is a process, so that the calls fail and change nothing. Every region is one line of name=count in the file
 * given as out=FILE. Counting is added to the translated code, a block at a time; it is exact for one thread.
 *
 * The distributions ship no header for plugins; these are the declarations of API version 1 (qemu 4.2 to 8.x).
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define GETPRIORITY 141 /* on AArch64 */
#define MAGIC 0x7E000000u

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char *target_name;
    struct { int min, cur; } version;
    bool system_emulation;
    union { struct { int smp_vcpus, max_vcpus; } system; };
} qemu_info;
enum { INLINE_ADD_U64 = 0 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                        uint64_t, uint64_t));

EXPORT int qemu_plugin_version = 1;

enum kind { TOTAL, FMA, FMA16, VECTOR, MEMORY, BRANCH, OTHER, KINDS };
static const char *const names[KINDS] = {"total", "fma", "fma16", "vector", "memory", "branch", "other"};
static uint64_t counts[KINDS];
static FILE *out;

/* By the top-level encoding table of the architecture (bits 28 to 25). */
static enum kind kind_of(uint32_t word)
{
    unsigned group = (word >> 25) & 15;
    if ((group & 5) == 4)
        return MEMORY;
    if ((group & 14) == 10)
        return BRANCH;
    if ((group & 7) != 7)
        return OTHER;
    bool by_vector = (word & 0xBFA0FC00u) == 0x0E20CC00u;  /* FMLA Vd.T, Vn.T, Vm.T */
    bool by_element = (word & 0xBF80F400u) == 0x0F801000u; /* FMLA Vd.T, Vn.T, Vm.Ts[i] */
    bool half_vector = (word & 0xBFE0FC00u) == 0x0E400C00u;  /* FMLA Vd.8H, Vn.8H, Vm.8H */
    bool half_element = (word & 0xBFC0F400u) == 0x0F001000u; /* FMLA Vd.8H, Vn.8H, Vm.H[i] */
    if (by_vector || by_element)
        return FMA;
    return half_vector || half_element ? FMA16 : VECTOR;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    uint64_t found[KINDS] = {0};
    size_t length = qemu_plugin_tb_n_insns(block);
    (void)id;
    for (size_t i = 0; i < length; i++) {
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), sizeof word);
        found[kind_of(word)]++;
    }
    found[TOTAL] = length;
    for (int kind = 0; kind < KINDS; kind++)
        if (found[kind])
            qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &counts[kind], found[kind]);
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t which, uint64_t who, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    (void)id, (void)cpu, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number != GETPRIORITY || which != 0)
        return;
    if ((uint32_t)who == MAGIC + 1) {
        for (int kind = 0; kind < KINDS; kind++)
            fprintf(out, "%s=%" PRIu64 "%c", names[kind], counts[kind], kind + 1 < KINDS ? ' ' : '\n');
        fflush(out);
    }
    if ((uint32_t)who == MAGIC)
        memset(counts, 0, sizeof counts);
}

EXPORT int qemu_plugin_install(plugin_id id, const qemu_info *info, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
    if (!out || strcmp(info->target_name, "aarch64")) {
        fprintf(stderr, "the counting plugin needs out=FILE that can be written, and an aarch64 guest\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
