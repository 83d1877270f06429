// monitor.yaml: what is not usual, and what is done about it. All faults at once; what the rules mean is monitor's.
import * as z from 'zod'
import { isRevocationReason } from '../pki/crl-reasons.ts'
import { duration, parseYaml } from './document.ts'

/** Rates and denials are remembered for so long. */
const maxWindowSeconds = 300

const name = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/, 'expected a name of a-z, 0-9 and dash')
/** A whole name, or a part of one with `*` for the rest. */
const pattern = z.string().regex(/^[!-~]{1,200}$/, 'expected printable characters, * for any')
const patterns = z.array(pattern).min(1).max(200)
const count = (least: number) => z.int().min(least).max(1_000_000_000)
const between = (text: string, least: number, most: number) =>
  duration
    .prefault(text)
    .refine(seconds => seconds >= least && seconds <= most, `expected a duration from ${least}s to ${most}s`)
const window = between('1m', 1, maxWindowSeconds)

const reason = z
  .string()
  .refine(
    text => isRevocationReason(text) && text !== 'certificateHold' && text !== 'removeFromCRL',
    'expected a final reason of RFC 5280, for instance privilegeWithdrawn or keyCompromise',
  )

const common = {
  /** `hold` can be released, `revoke` cannot be undone. */
  action: z.enum(['alert', 'hold', 'revoke']),
  on: z.enum(['instance', 'agent']).default('instance'),
  reason: reason.default('privilegeWithdrawn'),
  /** So long the same rule says nothing again of the same agent or instance. */
  cooldown: between('10m', 1, 30 * 86_400),
  /** Default: the file's. */
  dryRun: z.boolean().optional(),
  agents: patterns.default(['*']),
  except: z.array(pattern).max(200).default([]),
}
const ofAgent = { ...common, on: z.literal('agent').default('agent') }
const learn = between('7d', 0, 90 * 86_400)

const time = z.string().regex(/^(?:[01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$/, 'expected a time of day such as 08:30')
const weekdays = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const
const timezone = z.string().refine(zone => {
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone })
    return true
  } catch {
    return false
  }
}, 'expected a time zone such as UTC or Europe/Berlin')

const rule = z.discriminatedUnion(
  'when',
  [
    z.strictObject({
      when: z.literal('rate'),
      ...common,
      /** Robust standard deviations above the median of the same hour of past weeks. */
      deviations: z.number().min(1).max(1000).default(6),
      /** Calls a minute that are never too many. */
      floor: count(1).default(60),
      /** Calls a minute that are too many while there is too little history. */
      ceiling: count(1),
      /** Past weeks with calls in the same hour before the median counts. */
      history: z.int().min(2).max(8).default(3),
    }),
    z.strictObject({
      when: z.literal('denials'),
      ...common,
      count: count(1).default(20),
      window,
      /** Of at least so many different things. */
      distinct: z.int().min(1).max(50).default(1),
    }),
    z.strictObject({
      when: z.literal('first-use'),
      ...common,
      of: z.enum(['service', 'action']).default('action'),
      learn,
    }),
    z.strictObject({ when: z.literal('new-network'), ...common, learn }),
    z.strictObject({
      when: z.literal('hours'),
      ...common,
      /** Calls at other times are outside. Until before from: over midnight. */
      days: z.array(z.enum(weekdays)).min(1).max(7).default(['mon', 'tue', 'wed', 'thu', 'fri']),
      from: time,
      until: time,
      timezone: timezone.default('UTC'),
    }),
    z.strictObject({
      when: z.literal('two-addresses'),
      ...common,
      /** Both were in use within this time, each before and after the other came. */
      window,
      by: z.enum(['address', 'network']).default('address'),
    }),
    z.strictObject({
      when: z.literal('decoy'),
      ...common,
      /** What nobody has a reason to touch: all that is given has to match. */
      services: patterns.optional(),
      actions: patterns.optional(),
      resourceClasses: patterns.optional(),
    }),
    z.strictObject({ when: z.literal('enrolments'), ...ofAgent, count: count(1), window: between('1h', 1, 86_400) }),
    z.strictObject({ when: z.literal('lineage-conflict'), ...common }),
    z.strictObject({ when: z.literal('token-reuse'), ...common }),
    z.strictObject({ when: z.literal('silence'), ...ofAgent, after: between('24h', 1, 30 * 86_400) }),
  ],
  'expected one of rate, denials, first-use, new-network, hours, two-addresses, decoy, enrolments, lineage-conflict, token-reuse, silence',
)

const schema = z.strictObject({
  /** Rules that do not say otherwise only report what they would do. */
  dryRun: z.boolean().default(true),
  /** No more than this share of the active agents is held or revoked by rules within the window. */
  brake: z
    .strictObject({
      percent: z.number().min(0).max(100).default(5),
      /** So many in any case. */
      atLeast: z.int().min(0).max(1_000_000).default(2),
      window: between('1h', 60, 7 * 86_400),
    })
    .prefault({}),
  /** Prefixes that make a network. */
  networks: z
    .strictObject({ ipv4: z.int().min(8).max(32).default(24), ipv6: z.int().min(16).max(128).default(48) })
    .prefault({}),
  rules: z
    .record(
      name,
      rule.refine(
        each => each.when !== 'decoy' || (each.services ?? each.actions ?? each.resourceClasses) !== undefined,
        'expected services, actions or resourceClasses',
      ),
    )
    .default({})
    .refine(rules => Object.keys(rules).length <= 200, 'expected at most 200 rules'),
})

export type MonitorFile = Readonly<z.output<typeof schema>>
export type MonitorRule = Readonly<z.output<typeof rule>> & { readonly name: string; readonly dryRun: boolean }
export type RuleKind = MonitorRule['when']
export type RuleOf<K extends RuleKind> = Extract<MonitorRule, { readonly when: K }>

export interface MonitorRules extends Omit<MonitorFile, 'rules'> {
  readonly rules: readonly MonitorRule[]
}

/** @throws SchemaError with every fault */
export const parseMonitor = (text: string, source: string): MonitorRules => {
  const file = parseYaml(schema, text, source)
  return {
    ...file,
    rules: Object.entries(file.rules).map(([name, each]) => ({ ...each, name, dryRun: each.dryRun ?? file.dryRun })),
  }
}

/** Nothing is watched: what is in force without a file. */
export const noRules: MonitorRules = parseMonitor('', 'no rules')
