// The part of the admin API about ACME: external account bindings. Their part of the table of routes (admin-api.ts) and their answers.
import * as z from 'zod'
import type { List } from './admin-answers.ts'

const kind = z.enum(['agent', 'service'])
const name = z.string().min(1).max(64)
const dryRun = z.boolean().default(false)
const day = 86_400

const bindingCreate = z.strictObject({
  kind,
  name,
  dns: z.array(z.string().min(1).max(253)).max(100).default([]),
  ip: z.array(z.string().min(1).max(45)).max(100).default([]),
  ttlSeconds: z
    .int()
    .min(1)
    .max(30 * day)
    .default(day),
  dryRun,
})

export interface AcmeBindingAnswer {
  readonly kid: string
  readonly state: 'active' | 'used' | 'expired' | 'revoked'
  readonly kind: 'agent' | 'service' | 'operator'
  readonly name: string
  /** What its account may order beside the names of the registration: `dns:NAME`, `ip:ADDRESS`. */
  readonly names: readonly string[]
  /** Instance that its account is; null: none yet. */
  readonly instance: string | null
  readonly expiresAt: string
  readonly createdAt: string
  readonly createdBy: string
}

export interface AcmeBindingCreated {
  readonly kid: string
  /** base64url, as ACME clients take it. Shown once. */
  readonly hmacKey: string
  readonly expiresAt: string
  readonly subject: { readonly kind: 'agent' | 'service'; readonly name: string }
  /** Everything that its account may order without a proof. */
  readonly names: readonly string[]
  readonly directory: string
}

export const acmeRoutes = {
  acmeBindingsCreate: {
    method: 'POST',
    path: '/acme/eab',
    role: 'operator',
    effect: 'mutate',
    body: bindingCreate,
    query: null,
  },
  acmeBindingsList: {
    method: 'GET',
    path: '/acme/eab',
    role: 'viewer',
    effect: 'read',
    body: null,
    query: z.strictObject({
      kind: kind.optional(),
      name: name.optional(),
      after: z.string().max(200).optional(),
      limit: z.coerce.number().int().min(1).max(1000).default(100),
    }),
  },
  acmeBindingsRevoke: {
    method: 'POST',
    path: '/acme/eab/:kid/revoke',
    role: 'operator',
    effect: 'mutate',
    body: z.strictObject({ why: z.string().max(1000).optional(), dryRun }),
    query: null,
  },
} as const

export interface AcmeRouteAnswers {
  readonly acmeBindingsCreate: AcmeBindingCreated
  readonly acmeBindingsList: List<AcmeBindingAnswer>
  readonly acmeBindingsRevoke: AcmeBindingAnswer
}
