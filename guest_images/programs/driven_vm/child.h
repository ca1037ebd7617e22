/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef DRIVEN_VM_CHILD_H
#define DRIVEN_VM_CHILD_H

/* Ends the child if there is one. */
void kill_child(void);

#endif
