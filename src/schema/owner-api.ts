// The part of the admin API about owners: their part of the table of routes (admin-api.ts) and their answers.
import * as z from 'zod'
import type { List, RadiusChangeAnswer } from './admin-answers.ts'

const name = z.string().min(1).max(64)
const dryRun = z.boolean().default(false)
const why = z.string().max(1000).optional()

export interface OwnerAnswer {
  readonly name: string
  readonly state: 'active' | 'gone'
  readonly agents: number
  /** Agents, services and operators; none of those that are retired. */
  readonly registrations: number
  /** The declarative set that it belongs to (`agentca apply`). */
  readonly managedBy: string | null
  readonly createdAt: string
}

export const ownerRoutes = {
  ownersList: { method: 'GET', path: '/owners', role: 'viewer', effect: 'read', body: null, query: null },
  ownersCreate: {
    method: 'POST',
    path: '/owners',
    role: 'operator',
    effect: 'mutate',
    body: z.strictObject({ name, managedBy: name.optional(), dryRun }),
    query: null,
  },
  ownersUpdate: {
    method: 'POST',
    path: '/owners/:name/update',
    role: 'operator',
    effect: 'mutate',
    body: z.strictObject({ managedBy: name.nullable(), why, dryRun }),
    query: null,
  },
  /** Refused while anything is registered to them: it takes nothing from anybody. */
  ownersRemove: {
    method: 'POST',
    path: '/owners/:name/remove',
    role: 'operator',
    effect: 'mutate',
    body: z.strictObject({ why, dryRun }),
    query: null,
  },
  /** Holds their agents. `expected`: how many certificates and intents the caller saw and accepts. */
  ownersGone: {
    method: 'POST',
    path: '/owners/:name/gone',
    role: 'security',
    effect: 'mutate',
    body: z.strictObject({ why, expected: z.int().min(0).optional(), dryRun }),
    query: null,
  },
} as const

export interface OwnerRouteAnswers {
  readonly ownersList: List<OwnerAnswer>
  readonly ownersCreate: OwnerAnswer
  readonly ownersUpdate: OwnerAnswer
  readonly ownersRemove: OwnerAnswer
  readonly ownersGone: RadiusChangeAnswer
}
