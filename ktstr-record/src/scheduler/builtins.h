/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a BPF source calls by these names is expanded in place, as a compiler does that has both built in. */
static __attribute__((always_inline)) inline void *memset(void *to, int byte, unsigned long bytes)
{
	return __builtin_memset(to, byte, bytes);
}

static __attribute__((always_inline)) inline void *memcpy(void *to, const void *from, unsigned long bytes)
{
	return __builtin_memcpy(to, from, bytes);
}
