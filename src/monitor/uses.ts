// What one agent does, each thing once, with counts by hour and by day. What it only ever was denied is kept apart: it is no habit, and must
// not push habits out. Bounded: what was not done for longest is forgotten first.
import type { StoredUse, UseCount } from '../store/activity.ts'
import type { Use } from './activity.ts'

export const maxUses = 256
/** Beside them: of what was only ever denied. */
export const maxRefused = 64
const hourMs = 3_600_000
const dayMs = 24 * hourMs
const keptHoursMs = 48 * hourMs
const keptDaysMs = 90 * dayMs

export interface UseKey {
  readonly service: string
  readonly action: string
  readonly resourceClass: string
}

export interface Counted {
  readonly allowed: number
  readonly denied: number
}

/** Which parts of a use were never allowed before. */
export interface Novelty {
  readonly service: boolean
  /** This action at this service. */
  readonly action: boolean
}

export interface Uses {
  /** @returns what of it is new */
  add(key: UseKey, counted: Counted, first: number, last: number): Novelty
  since(since: number, now: number): readonly Use[]
  stored(): readonly StoredUse[]
  readonly size: number
  /** Bytes, about. */
  readonly weight: number
}

interface Slot {
  readonly start: number
  allowed: number
  denied: number
}

interface Entry extends UseKey {
  readonly first: number
  last: number
  readonly hours: Slot[]
  readonly days: Slot[]
}

const count = (slots: Slot[], spanMs: number, keptMs: number, at: number, { allowed, denied }: Counted): void => {
  const start = at - (at % spanMs)
  // Digests come a little out of order: nearly always the last slot or the one before it.
  const found = slots.findLast(slot => slot.start === start)
  if (found !== undefined) {
    found.allowed += allowed
    found.denied += denied
    return
  }
  slots.push({ start, allowed, denied })
  if (slots.length > 1 && (slots.at(-2) as Slot).start > start) slots.sort((a, b) => a.start - b.start)
  while (slots.length > 1 && (slots[0] as Slot).start < at - keptMs) slots.shift()
}

const sumSince = (slots: readonly Slot[], spanMs: number, since: number): Counted => {
  const sum = { allowed: 0, denied: 0 }
  for (const slot of slots) {
    if (slot.start + spanMs <= since) continue
    sum.allowed += slot.allowed
    sum.denied += slot.denied
  }
  return sum
}

const keyOf = ({ service, action, resourceClass }: UseKey): string => `${service}\0${action}\0${resourceClass}`
const copyOf = (slots: readonly UseCount[]): Slot[] => slots.map(slot => ({ ...slot }))

/** Measured: its texts are there twice, as its key too, and an hour or a day is an object of three numbers. */
const weightOf = ({ service, action, resourceClass, hours, days }: Entry): number =>
  700 + 2 * (service.length + action.length + resourceClass.length) + 80 * (hours.length + days.length)

type Entries = Map<string, Entry>

/** @returns the weight of what had to leave */
const keep = (entries: Entries, key: string, entry: Entry, bound: number): number => {
  entries.delete(key)
  entries.set(key, entry)
  if (entries.size <= bound) return 0
  const [oldest, left] = entries.entries().next().value as [string, Entry]
  entries.delete(oldest)
  return weightOf(left)
}

const noveltyIn = (habits: Entries, key: UseKey): Novelty => {
  let service = true
  for (const entry of habits.values()) {
    if (entry.service !== key.service) continue
    if (entry.action === key.action) return { service: false, action: false }
    service = false
  }
  return { service, action: true }
}

export const createUses = (stored: readonly StoredUse[] = []): Uses => {
  // Owned by this closure; in the order of last use.
  const habits: Entries = new Map()
  const refused: Entries = new Map()
  let weight = 0
  const put = (key: string, entry: Entry, isAllowed: boolean): void => {
    if (isAllowed || habits.has(key)) {
      refused.delete(key)
      weight -= keep(habits, key, entry, maxUses)
    } else weight -= keep(refused, key, entry, maxRefused)
  }
  for (const use of [...stored].sort((a, b) => a.last - b.last)) {
    const entry = { ...use, hours: copyOf(use.hours), days: copyOf(use.days) }
    weight += weightOf(entry)
    put(
      keyOf(use),
      entry,
      use.days.some(({ allowed }) => allowed > 0),
    )
  }
  const all = (): readonly Entry[] => [...habits.values(), ...refused.values()]

  return {
    add: (key, counted, first, last) => {
      const text = keyOf(key)
      const habit = habits.get(text)
      const novelty = habit === undefined ? noveltyIn(habits, key) : { service: false, action: false }
      const { service, action, resourceClass } = key
      const known = habit ?? refused.get(text)
      if (known !== undefined) weight -= weightOf(known)
      const entry: Entry = known ?? { service, action, resourceClass, first, last, hours: [], days: [] }
      entry.last = Math.max(entry.last, last)
      count(entry.hours, hourMs, keptHoursMs, last, counted)
      count(entry.days, dayMs, keptDaysMs, last, counted)
      weight += weightOf(entry)
      put(text, entry, counted.allowed > 0)
      return novelty
    },
    since: (since, now) => {
      const byHour = since > now - keptHoursMs + hourMs
      return all()
        .filter(({ last }) => last >= since)
        .map(({ hours, days, ...use }) => ({
          ...use,
          ...(byHour ? sumSince(hours, hourMs, since) : sumSince(days, dayMs, since)),
        }))
        .sort((a, b) => b.last - a.last)
    },
    stored: () => all().map(entry => ({ ...entry, hours: copyOf(entry.hours), days: copyOf(entry.days) })),
    get size() {
      return habits.size + refused.size
    },
    get weight() {
      return weight
    },
  }
}
