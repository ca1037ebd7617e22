// SPDX-License-Identifier: GPL-2.0-or-later
/* All rows: each subject has a table of its own. */
#include "rows.h"
#include "addresses.h"
#include "beside.h"
#include "broken.h"
#include "exchanges.h"
#include "failures.h"
#include "groups.h"
#include "handles.h"
#include "hyper_v.h"
#include "interrupts.h"
#include "modes.h"
#include "nested.h"
#include "nested_vmx.h"
#include "paravirt.h"
#include "places.h"
#include "processes.h"
#include "ranges.h"
#include "refusals.h"
#include "replaced.h"
#include "reset.h"
#include "second.h"
#include "shutdown.h"
#include "slots.h"
#include "disclosures.h"
#include "twins.h"
#include "waits.h"
#include "walk.h"

static const struct row *const tables[] = {
	walk_rows, modes_rows, nested_rows, nested_vmx_rows, slots_rows, ranges_rows, failures_rows, handles_rows,
	disclosures_rows, refusals_rows, paravirt_rows, processes_rows, groups_rows, second_rows, twins_rows, hyper_v_rows,
	reset_rows, shutdown_rows, waits_rows, interrupts_rows, exchanges_rows, places_rows,
	replaced_rows, addresses_rows, broken_rows, beside_rows,
};

const struct row *next_row(const struct row *previous)
{
	if (previous && previous[1].name)
		return previous + 1;
	for (unsigned int i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		if (!previous)
			return tables[i];
		for (const struct row *row = tables[i]; row->name; row++) {
			if (row == previous)
				return i + 1 < sizeof(tables) / sizeof(*tables) ? tables[i + 1] : NULL;
		}
	}
	return NULL;
}
