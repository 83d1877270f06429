// One finding of `agentca doctor`, and how findings make an exit code.

export interface Check {
  readonly check: string
  readonly status: 'ok' | 'warn' | 'failed' | 'skipped'
  readonly what: string
  /** What to type or do; null where nothing is wrong. */
  readonly cure: string | null
}

export const ok = (check: string, what: string): Check => ({ check, status: 'ok', what, cure: null })
export const warn = (check: string, what: string, cure: string): Check => ({ check, status: 'warn', what, cure })
export const failed = (check: string, what: string, cure: string): Check => ({ check, status: 'failed', what, cure })
export const skipped = (check: string, what: string): Check => ({ check, status: 'skipped', what, cure: null })

/** 9: a check failed; 10: warnings only. */
export const exitCodeOfChecks = (checks: readonly Check[]): 0 | 9 | 10 => {
  if (checks.some(each => each.status === 'failed')) return 9
  return checks.some(each => each.status === 'warn') ? 10 : 0
}

const day = 86_400_000

/** Below the first it fails, below the second it warns: a root needs half a year to be replaced everywhere, an issuing CA a month. */
const lifetimeDays = { root: [182, 365], issuing: [30, 60] } as const

export const checkLifetime = (name: string, kind: 'root' | 'issuing', notAfter: number, now: number): Check => {
  const days = Math.floor((notAfter - now) / day)
  const [failing, warning] = lifetimeDays[kind]
  const what = `${kind} CA ${name} ends in ${days} days`
  const cure =
    kind === 'root'
      ? 'agentca ceremony root: a new root, both in the bundle until the old one has ended'
      : 'agentca ceremony issuing, then agentca ca prepare and agentca ca activate'
  if (days < failing) return failed('ca lifetime', what, cure)
  return days < warning ? warn('ca lifetime', what, cure) : ok('ca lifetime', what)
}

/** A root's list comes from a ceremony and is planned two months ahead; an issuing CA's renews itself while half its life is left. */
export const checkCrlAge = (
  name: string,
  kind: 'root' | 'issuing',
  crl: { readonly thisUpdate: number; readonly nextUpdate: number },
  now: number,
): Check => {
  const left = crl.nextUpdate - now
  const cure = kind === 'root' ? 'agentca ceremony crl' : 'agentca crl publish'
  if (left <= 0) return failed('crl age', `the CRL of ${name} is past its nextUpdate`, cure)
  const hours = Math.floor(left / 3_600_000)
  const what = `the CRL of ${name} holds for ${hours < 72 ? `${hours} hours` : `${Math.floor(hours / 24)} days`} more`
  const life = crl.nextUpdate - crl.thisUpdate
  const soon = kind === 'root' ? left < 60 * day : left < life / 4
  return soon ? warn('crl age', what, cure) : ok('crl age', what)
}
