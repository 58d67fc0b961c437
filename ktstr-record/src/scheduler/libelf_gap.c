/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Linked into every loader. Debian 13's static libelf refers to two functions of an internal library of elfutils
 * that no package ships. They set up and tear down a tree that only elf_getdata_rawchunk() touches; libbpf never
 * calls that, and a program that does fails to link on the tree's other functions. Weak, so that a libelf that
 * brings its own wins.
 */
__attribute__((weak)) void eu_search_tree_init(void *tree, void *compare)
{
	(void)tree;
	(void)compare;
}

__attribute__((weak)) void eu_search_tree_fini(void *tree, void *free_node)
{
	(void)tree;
	(void)free_node;
}
