// What the signer answers: one request in, one answer out, whatever transport carries them. Puts checks, ceilings, queue, counters and
// HSM together; sockets are in process.ts.

import { fromUtf8, utf8 } from '../base/bytes.ts'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import type { Log } from '../base/log.ts'
import type { SignerConfig } from './config.ts'
import { createCounters } from './counters.ts'
import type { Cryptoki } from './cryptoki.ts'
import { modifiedAt } from './durable-file.ts'
import { SignerError, TokenError } from './errors.ts'
import { createHighWater } from './high-water.ts'
import { createHsm, type Hsm } from './hsm.ts'
import type { ListedKey } from './keys.ts'
import { createPinLatch } from './pin-latch.ts'
import type { SignerHealth, SignerState, SignPriority, SignPurpose } from './port.ts'
import { checkPurpose, testSignPrefix } from './purpose-checks.ts'
import { createRateCeiling } from './rate-ceiling.ts'
import { createSignQueue, type SignQueue } from './sign-queue.ts'

export interface SignCommand {
  readonly purpose: SignPurpose
  readonly key: string
  readonly tbs: Uint8Array
  readonly priority: SignPriority
  readonly deadlineMs: number
}

export interface SignerService {
  /** @returns 'restart' when only a new process can help, 'stay' when it is ready or an operator has to act */
  start(): Promise<'stay' | 'restart'>
  /** At once where nothing has to wait: neither for its turn nor for the module. @throws SignerError */
  sign(command: SignCommand): Uint8Array | Promise<Uint8Array>
  health(): SignerHealth
  keys(): readonly ListedKey[]
  /** Clears the latch and logs in once, with the PIN given or with the file's. @throws SignerError `pin_latched`, `hsm_error` */
  unlock(pin: Uint8Array): Promise<SignerHealth>
  /** A test signature when nothing else was signed lately: finds a dead module and keeps links awake. */
  probe(): Promise<void>
  /** Refuses new work, lets running calls end for a moment, writes the exact counts. */
  close(): Promise<void>
}

export interface ServiceDeps {
  readonly config: SignerConfig
  readonly clock: Clock
  readonly log: Log
  readonly cryptoki?: Cryptoki
}

/** Nobody but status may use the slots that are kept for status. */
const grantedPriority = (command: SignCommand): SignPriority =>
  command.purpose === 'leaf' && command.priority === 'status' ? 'renew' : command.priority

const lockedCodes: readonly string[] = ['pin_wrong', 'pin_latched', 'pin_source_unreadable']
/** What another process would meet just the same. */
const lastingCodes: readonly string[] = [
  ...lockedCodes,
  'key_not_found',
  'key_ambiguous',
  'key_mismatch',
  'key_unsafe',
  'token_ambiguous',
  'module_not_loadable',
]

/** The kernel dates what it writes by its last tick, up to 10 ms ago; who touches a file may give the very moment. */
const fileTimeMs = 20

export const createSignerService = ({ config, clock, log, cryptoki }: ServiceDeps): SignerService => {
  const latch = createPinLatch(config.stateDirectory)
  const counters = createCounters(config.stateDirectory)
  const highWater = createHighWater(config.stateDirectory)
  const rates = createRateCeiling(clock)
  const hsm: Hsm = createHsm({
    config,
    latch,
    log,
    count: (key, purpose) => {
      lastSignAt = clock.monotonic()
      counters.increment(key, purpose)
    },
    ...(cryptoki ? { cryptoki } : {}),
  })
  let queue: SignQueue = createSignQueue({ slots: config.sessions, clock })
  let lastSignAt = clock.monotonic()
  let closing = false
  let shown: { state: SignerState; sinceMs: number } = { state: 'down', sinceMs: clock.now() }

  const currentState = (): { state: SignerState; detail: string } => {
    const base = closing ? ({ state: 'down', detail: 'shutting down' } as const) : hsm.state()
    const { stuck, oldestStuckMs } = queue.state()
    const state = stuck > 0 && base.state === 'ready' ? 'down' : base.state
    if (state !== shown.state) shown = { state, sinceMs: clock.now() }
    return state === base.state
      ? base
      : {
          state,
          detail: `${stuck} calls hang in the module, the oldest ${Math.round(oldestStuckMs)} ms past its deadline`,
        }
  }

  const unavailable = (): SignerError => {
    const { detail } = hsm.state()
    const latched = latch.isLatched()
    return new SignerError(latched ? 'pin_latched' : 'signer_unavailable', detail, {
      hsmCalled: 'no',
      ...(hsm.state().state === 'locked' ? { hint: 'agentca hsm unlock' } : {}),
    })
  }

  const purposeDeps = { trustDomain: config.trustDomain, highWater, keys: hsm.keys, now: clock.now }
  const health = (): SignerHealth => {
    const { state, detail } = currentState()
    const { busy, queued, stuck } = queue.state()
    return {
      state,
      detail,
      pinLatched: latch.isLatched(),
      keys: hsm.keys().map(({ label, purposes, spkiSha256Hex, curve }) => ({
        label,
        purposes,
        idHex: hsm.idHexOf(label),
        spkiSha256Hex,
        curve,
      })),
      counts: counters.counts(),
      sessions: { open: hsm.openSessions(), busy, queued, stuck },
      sinceMs: shown.sinceMs,
    }
  }

  const sign: SignerService['sign'] = command => {
    if (hsm.state().state !== 'ready') throw unavailable()
    const key = hsm.keys().find(one => one.label === command.key)
    if (!key)
      throw new SignerError('signer_refused', `no key "${command.key}" is configured`, {
        hsmCalled: 'no',
        rule: 'key_unknown',
        hint: 'agentca hsm status shows its keys; a signer under a user of its own gets one by agentca signer add-key',
      })
    rates.take(key.label, command.purpose, key.ceilings.perMinute[command.purpose])
    const priority = grantedPriority(command)
    // Check, commit and C_SignInit in one turn of the event loop: two CRLs of one number cannot both pass.
    const run = (): Uint8Array | Promise<Uint8Array> => {
      if (hsm.state().state !== 'ready') throw unavailable()
      checkPurpose(purposeDeps, key, command)()
      return hsm.sign(key.label, command.purpose, command.tbs)
    }
    const work = { priority, deadlineMs: command.deadlineMs, run }
    const made = hsm.isInline() ? queue.now(work) : null
    return made !== null ? made.done : queue.submit({ ...work, run: async () => run() })
  }

  const startHsm = async (pin?: string): Promise<void> => {
    await hsm.start(pin)
    if (hsm.state().state === 'ready') queue = createSignQueue({ slots: hsm.slots(), clock })
  }

  /**
   * Whether the signer's user touched its PIN file since a PIN was refused. Whoever only opens the socket may not use up the token's
   * attempts with one PIN; another PIN in the file passes the latch anyhow. A time that is yet to come would be newer for ever.
   */
  const pinFileIsNewer = (): boolean => {
    const { pinSource } = config.module
    const changedAt = pinSource === undefined ? null : modifiedAt(pinSource)
    const latchedAt = latch.changedAt()
    return changedAt !== null && (latchedAt === null || changedAt > latchedAt + fileTimeMs) && changedAt <= clock.now()
  }

  return {
    async start() {
      try {
        await startHsm()
        return 'stay'
      } catch (error) {
        const code = error instanceof TokenError ? error.code : ''
        log.error({ code, reason: messageOf(error) }, 'the signer cannot start')
        return lastingCodes.includes(code) ? 'stay' : 'restart'
      }
    },
    sign,
    health,
    keys: hsm.attributes,
    async unlock(pin) {
      // Who may ask for signatures is not for that reason one that may see the PIN on its way.
      if (pin.length > 0 && config.access === 'group')
        throw new SignerError('pin_latched', 'a signer under a user of its own takes its PIN from its own file only', {
          hsmCalled: 'no',
          hint: 'write it there as the user of the signer, then agentca hsm unlock without a PIN',
        })
      if (config.access !== 'group' || pinFileIsNewer()) latch.clear()
      if (hsm.state().state === 'ready') return health()
      try {
        await startHsm(pin.length > 0 ? fromUtf8(pin) : undefined)
      } catch (error) {
        const code = error instanceof TokenError && lockedCodes.includes(error.code) ? 'pin_latched' : 'hsm_error'
        throw new SignerError(code, messageOf(error), {
          hsmCalled: 'no',
          hint:
            config.access === 'group'
              ? 'as the user of the signer: write the right PIN into its file (touch the file when it is right already), then agentca hsm unlock'
              : 'correct the PIN, then run agentca hsm unlock again',
        })
      }
      log.warn({}, 'unlocked by an operator')
      return health()
    },
    async probe() {
      const [key] = hsm.keys()
      if (!key || hsm.state().state !== 'ready' || clock.monotonic() - lastSignAt < 20_000) return
      const work = {
        priority: 'status' as const,
        deadlineMs: 5000,
        run: async () => hsm.sign(key.label, 'test-sign', utf8(`${testSignPrefix}probe`)),
      }
      await queue.submit(work).catch(error => log.warn({ reason: messageOf(error) }, 'the probe signature failed'))
    },
    async close() {
      closing = true
      queue.stop(new SignerError('signer_unavailable', 'the signer is shutting down', { hsmCalled: 'no' }))
      const end = clock.monotonic() + 2000
      while (queue.state().busy > queue.state().stuck && clock.monotonic() < end)
        await new Promise(resolve => setTimeout(resolve, 10))
      counters.close()
    },
  }
}
