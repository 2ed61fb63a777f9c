/*
 * window_model.h — a naive model of rate limits, and a machine that runs it beside the real one.
 *
 * The model moves in the smallest steps there are and adds everything up each time, so it needs no
 * arithmetic worth mentioning.  run_window_program reads operations from bytes (a random or fuzzed
 * program), applies each to both and compares.  It returns NULL, or what differed.
 */
#ifndef PGL_TEST_WINDOW_MODEL_H
#define PGL_TEST_WINDOW_MODEL_H

#include <stddef.h>
#include <string.h>

#include "window.h"

#define MODEL_SLOTS 128 /* more than a window needs, so that nothing is shared */
#define MODEL_CALLS 16
#define MODEL_FAR 10000 /* longest wait that the model follows, in microseconds */

typedef struct Model
{
	PglWindowKind kind;
	int64_t limit;
	int64_t burst;
	int64_t window_us;
	int64_t slot_us;
	int64_t now_us;
	int64_t value; /* bucket: units times window_us */
	int64_t slots[MODEL_SLOTS];
	int64_t debt;
} Model;

typedef struct ModelCall
{
	bool open;
	int64_t amount;
	int64_t slot; /* -1: booked in a bucket */
	PglWindowStamp stamp;
} ModelCall;

typedef struct Machine
{
	const uint8_t *pos;
	const uint8_t *end;
	PglWindow window;
	Model model;
	ModelCall calls[MODEL_CALLS];
	int64_t clock_us;
} Machine;

/* ---- the model ---- */

static int64_t
model_total(const Model *model)
{
	int64_t slot = model->now_us / model->slot_us;
	int64_t total = 0;

	for (int64_t s = slot; s >= 0 && s > slot - PGL_WINDOW_SLOTS; s--)
		total += model->slots[s % MODEL_SLOTS];
	return total;
}

static void
model_pay(Model *model)
{
	int64_t room = model->limit - model_total(model);
	int64_t paid = room < model->debt ? room : model->debt;

	if (paid <= 0)
		return;
	model->slots[model->now_us / model->slot_us % MODEL_SLOTS] += paid;
	model->debt -= paid;
}

/* One microsecond of a bucket, or one slot of a strict window, in which nothing happens before. */
static void
model_tick(Model *model, int64_t until_us)
{
	int64_t next_slot = (model->now_us / model->slot_us + 1) * model->slot_us;

	if (model->kind == PGL_WINDOW_BUCKET)
	{
		model->now_us++;
		model->value += model->limit;
		if (model->value > model->burst * model->window_us)
			model->value = model->burst * model->window_us;
		return;
	}
	model->now_us = next_slot < until_us ? next_slot : until_us;
	if (model->now_us == next_slot)
	{
		model->slots[model->now_us / model->slot_us % MODEL_SLOTS] = 0;
		if (model->debt > 0)
			model_pay(model);
	}
}

static void
model_advance(Model *model, int64_t now_us)
{
	while (model->now_us < now_us)
		model_tick(model, now_us);
}

static int64_t
model_available(const Model *model)
{
	int64_t units;

	if (model->kind == PGL_WINDOW_STRICT)
		return model->limit - model_total(model) - model->debt;
	units = model->value / model->window_us;
	return units * model->window_us > model->value ? units - 1 : units;
}

static void
model_use(Model *model, int64_t amount)
{
	if (model->kind == PGL_WINDOW_BUCKET)
	{
		model->value -= amount * model->window_us;
		if (model->value > model->burst * model->window_us)
			model->value = model->burst * model->window_us;
		return;
	}
	model->debt += amount;
	model_pay(model);
}

static void
model_refund(Model *model, int64_t slot, int64_t amount)
{
	int64_t now = model->now_us / model->slot_us;
	int64_t taken;

	if (slot < 0 || slot <= now - PGL_WINDOW_SLOTS)
		return;
	taken = model->slots[slot % MODEL_SLOTS];
	taken = taken < amount ? taken : amount;
	model->slots[slot % MODEL_SLOTS] -= taken;
	amount -= taken;
	model->debt = model->debt > amount ? model->debt - amount : 0;
	model_pay(model);
}

static void
model_limits(Model *model, PglWindowKind kind, int64_t limit, int64_t burst)
{
	model->kind = kind;
	model->limit = limit;
	model->burst = kind == PGL_WINDOW_STRICT || burst == 0 ? limit : burst;
}

static void
model_init(Model *model, PglWindowKind kind, int64_t limit, int64_t burst, int64_t window_us,
		   int64_t now_us)
{
	memset(model, 0, sizeof(*model));
	model_limits(model, kind, limit, burst);
	model->window_us = window_us;
	model->slot_us = 1;
	while (model->slot_us * (PGL_WINDOW_SLOTS - 1) < window_us)
		model->slot_us++;
	model->now_us = now_us;
	model->value = model->burst * window_us;
}

static void
model_resize(Model *model, PglWindowKind kind, int64_t limit, int64_t burst)
{
	PglWindowKind old_kind = model->kind;
	int64_t old_burst = model->burst;
	int64_t used = old_burst - model_available(model);

	model_limits(model, kind, limit, burst);
	if (kind == old_kind)
	{
		if (kind == PGL_WINDOW_BUCKET)
			model_use(model, old_burst - model->burst);
		else
			model_pay(model);
		return;
	}
	memset(model->slots, 0, sizeof(model->slots));
	model->debt = 0;
	model->value = model->burst * model->window_us;
	model_use(model, used);
}

/* ---- programs ---- */

static int64_t
next_byte(Machine *machine)
{
	return machine->pos < machine->end ? *machine->pos++ : 0;
}

static const char *
compare_windows(const Machine *machine)
{
	Model model = machine->model;
	int64_t now_us = machine->clock_us;

	model_advance(&model, now_us);
	if (pgl_window_available(&machine->window, now_us) != model_available(&model))
		return "available differs";
	if (pgl_window_is_idle(&machine->window, now_us) != (model_available(&model) >= model.burst))
		return "idle differs";
	return NULL;
}

/* The time of a wait is exact: enough is there then, and was not one microsecond before. */
static const char *
compare_wait(const Machine *machine, int64_t amount)
{
	int64_t now_us = machine->clock_us;
	int64_t wait = pgl_window_wait(&machine->window, amount, now_us);
	Model model = machine->model;

	if (amount > 0 && amount > model.burst)
		return wait == PGL_WINDOW_NEVER ? NULL : "more than the capacity may pass";
	model_advance(&model, now_us);
	if (amount <= 0 || model_available(&model) >= amount)
		return wait == 0 ? NULL : "a wait for nothing";
	if (wait == 0)
		return "passes too early";
	if (model.limit == 0)
		return wait == PGL_WINDOW_NEVER ? NULL : "a wait without any refill";
	if (wait < 0)
		return "waits for ever";
	if (pgl_window_wait(&machine->window, amount, now_us + wait) != 0 ||
		pgl_window_wait(&machine->window, amount, now_us + wait - 1) == 0)
		return "wait is not exact";
	if (wait > MODEL_FAR)
		return NULL;
	model_advance(&model, now_us + wait - 1);
	if (model_available(&model) >= amount)
		return "waits too long";
	model_advance(&model, now_us + wait);
	return model_available(&model) >= amount ? NULL : "wait is too short";
}

static const char *
take_units(Machine *machine, int64_t amount, bool unchecked)
{
	ModelCall *call = machine->calls;

	while (call < machine->calls + MODEL_CALLS && call->open)
		call++;
	if (call == machine->calls + MODEL_CALLS)
		return NULL;
	if (!unchecked && pgl_window_wait(&machine->window, amount, machine->clock_us) != 0)
		return NULL;
	call->open = true;
	call->amount = amount;
	call->stamp = pgl_window_take(&machine->window, amount, machine->clock_us);
	model_advance(&machine->model, machine->clock_us);
	model_use(&machine->model, amount);
	call->slot = machine->model.now_us / machine->model.slot_us;
	return NULL;
}

static void
settle_call(Machine *machine, ModelCall *call, int64_t used)
{
	if (!call->open)
		return;
	call->open = false;
	pgl_window_settle(&machine->window, call->stamp, call->amount, used, machine->clock_us);
	model_advance(&machine->model, machine->clock_us);
	if (used > call->amount || machine->model.kind == PGL_WINDOW_BUCKET)
		model_use(&machine->model, used - call->amount);
	else if (used < call->amount)
		model_refund(&machine->model, call->slot, call->amount - used);
}

static void
resize_windows(Machine *machine, PglWindowKind kind, int64_t limit, int64_t burst)
{
	/* A strict window remembers only the slot; a clock that stepped back within it is no concern.
	 */
	if (machine->clock_us < machine->model.now_us)
		machine->clock_us = machine->model.now_us;
	pgl_window_resize(&machine->window, kind, limit, burst, machine->clock_us);
	model_advance(&machine->model, machine->clock_us);
	model_resize(&machine->model, kind, limit, burst);
}

static const char *
run_operation(Machine *machine)
{
	int64_t op = next_byte(machine);
	int64_t a = next_byte(machine);
	int64_t b;

	switch (op % 8)
	{
		case 0:
			machine->clock_us += a;
			return NULL;
		case 1:
			machine->clock_us += a * 16;
			return NULL;
		case 2:
			machine->clock_us -= a < machine->clock_us ? a % 32 : 0;
			return NULL;
		case 3:
			return compare_wait(machine, a % 64);
		case 4:
			b = next_byte(machine);
			settle_call(machine, &machine->calls[a % MODEL_CALLS], b < 250 ? b % 64 : b * 20);
			return NULL;
		case 5:
			b = next_byte(machine);
			if (op >= 128) /* rarely */
				resize_windows(machine, b % 2 ? PGL_WINDOW_STRICT : PGL_WINDOW_BUCKET, a % 64,
							   b / 2 % 64);
			return NULL;
		default:
			return take_units(machine, a % 64, op >= 240);
	}
}

static const char *
run_window_program(const uint8_t *data, size_t size)
{
	Machine machine;
	PglWindowKind kind;
	int64_t limit;
	int64_t burst;
	int64_t window_us;

	memset(&machine, 0, sizeof(machine));
	machine.pos = data;
	machine.end = data + size;
	kind = next_byte(&machine) % 2 ? PGL_WINDOW_STRICT : PGL_WINDOW_BUCKET;
	limit = next_byte(&machine) % 64;
	burst = next_byte(&machine) % 64;
	window_us = 1 + next_byte(&machine) + next_byte(&machine) % 8 * 256;
	machine.clock_us = 1 + next_byte(&machine) * 37;
	pgl_window_init(&machine.window, kind, limit, burst, window_us, machine.clock_us);
	model_init(&machine.model, kind, limit, burst, window_us, machine.clock_us);
	while (machine.pos < machine.end)
	{
		const char *difference = run_operation(&machine);

		if (difference == NULL)
			difference = compare_windows(&machine);
		if (difference != NULL)
			return difference;
	}
	return NULL;
}

#endif
