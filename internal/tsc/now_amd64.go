package tsc

// Now is the counter, read after all that the caller did before and before all that it
// does after: RDTSC itself is not ordered with other instructions, LFENCE on both
// sides makes it so (Intel SDM, RDTSC; AMD64 APM, LFENCE is dispatch serializing
// under Linux, which sets DE_CFG bit 1).
func Now() uint64
