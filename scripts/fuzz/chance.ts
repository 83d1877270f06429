// Numbers and choices from a source of chance that a seed repeats.
export type { Random } from '../../test/story/crash-plan.ts'

import type { Random } from '../../test/story/crash-plan.ts'

export const below = (random: Random, bound: number): number => Math.floor(random() * bound)
export const oneOf = <T>(random: Random, values: readonly T[]): T => values[below(random, values.length)] as T
