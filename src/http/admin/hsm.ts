// The signer and its token, as far as an operator may look and help.
import { operatorAction } from '../../audit/events.ts'
import { isAgentCaError } from '../../base/errors.ts'
import { CaError } from '../../ca/errors.ts'
import type { RequestContext } from '../../ca/issuance.ts'
import { leafContextOf } from '../../ca/leaf-context.ts'
import type { HsmKeyAnswer, HsmStatusAnswer, TestSignatureAnswer } from '../../schema/admin-answers.ts'
import type { SignerHealth } from '../../signer/port.ts'
import { HttpError } from '../errors.ts'
import { time, wholeList } from './answers.ts'
import type { AdminDeps, HsmInspection } from './deps.ts'
import type { Handlers } from './handler.ts'

const statusAnswer = (health: SignerHealth, restarts: number): HsmStatusAnswer => {
  const { state, pinLatched, detail, sessions } = health
  const { open, busy, queued, stuck } = sessions
  return {
    state,
    pinLatched,
    detail,
    since: time(health.sinceMs),
    keys: health.keys.map(({ label, purposes, curve }) => ({ label, purposes, curve })),
    sessions: { open, busy, queued, stuck },
    signatures: health.counts.map(({ key, purpose, total }) => ({ key, purpose, total })),
    restarts,
  }
}

const keyAnswer = (key: Awaited<ReturnType<HsmInspection['keys']>>[number]): HsmKeyAnswer => {
  const { label, idHex, curve, sign, sensitive, extractable, alwaysSensitive, neverExtractable, local } = key
  return { label, id: idHex, curve, sign, sensitive, extractable, alwaysSensitive, neverExtractable, local }
}

/** A name that was mistyped is no fault of the signer. @throws CaError `not_found`, `conflict` */
const checkTestKey = ({ state, keys }: SignerHealth, label: string | undefined): void => {
  if (label === undefined || state !== 'ready') return
  const hint = 'agentca hsm status'
  const key = keys.find(each => each.label === label)
  if (key === undefined) throw new CaError('not_found', `the signer has no key labelled ${label}`, { hint })
  if (!key.purposes.includes('test-sign'))
    throw new CaError('conflict', `key ${label} does not sign tests`, { facts: { purposes: key.purposes }, hint })
}

const testKeys = ({ keys }: SignerHealth, label: string | undefined): readonly string[] =>
  keys
    .filter(each => each.purposes.includes('test-sign') && (label === undefined || each.label === label))
    .map(each => each.label)

/** What a dry run shows: which key it would be, and no signature. */
const unsigned = (key: string): TestSignatureAnswer => ({ key, signed: '', signature: '', milliseconds: 0 })

/** @throws HttpError `pin_refused`; what the signer throws for other reasons */
const unlock = async (hsm: AdminDeps['hsm'], pin: string | undefined): Promise<SignerHealth> => {
  try {
    return await hsm.unlock(pin)
  } catch (cause) {
    if (!isAgentCaError(cause) || cause.code !== 'pin_latched') throw cause
    const { message, hint } = cause
    throw new HttpError('pin_refused', message, { cause, ...(hint === undefined ? {} : { hint }) })
  }
}

type Names = 'hsmStatus' | 'hsmKeys' | 'hsmTestSign' | 'hsmUnlock'

export const hsmHandlers = (deps: AdminDeps): Pick<Handlers, Names> => {
  const { hsm, ledger, clock } = deps
  // Written before it is tried: a module that hangs must not hide who asked.
  const note = (context: RequestContext, action: string, facts: Readonly<Record<string, string>>) =>
    ledger.audit.append([operatorAction(leafContextOf(context, clock.now()), { action, ...facts })])
  return {
    hsmStatus: async () => statusAnswer(await hsm.status(), hsm.restarts()),
    hsmKeys: async () => wholeList((await hsm.keys()).map(keyAnswer)),
    hsmTestSign: async ({ body: { key, dryRun }, context }) => {
      const health = await hsm.status()
      checkTestKey(health, key)
      if (dryRun) return wholeList(testKeys(health, key).map(label => unsigned(label)))
      await note(context, 'hsm_test_sign', key === undefined ? {} : { key })
      const signed = await hsm.testSign(key)
      return wholeList(
        signed.map(({ key: label, signedHex, signatureHex, milliseconds }) => ({
          key: label,
          signed: signedHex,
          signature: signatureHex,
          milliseconds,
        })),
      )
    },
    hsmUnlock: async ({ body: { pin }, context }) => {
      await note(context, 'hsm_unlock', { pin: pin === undefined ? 'pin-source' : 'given' })
      return statusAnswer(await unlock(hsm, pin), hsm.restarts())
    },
  }
}
