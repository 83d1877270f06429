// What doctor asks a running server: signer, keys, clock, CAs, CRLs, the audit log's checkpoints.
import { isAgentCaError, messageOf } from '../base/errors.ts'
import type { HsmKeyAnswer } from '../schema/admin-answers.ts'
import type { AdminClient } from './admin-client.ts'
import { type Check, checkCrlAge, checkLifetime, failed, ok, warn } from './doctor-check.ts'
import { ServerRefusal } from './errors.ts'

const checkHsm = async (client: AdminClient): Promise<readonly Check[]> => {
  const { state, detail, pinLatched, sessions } = await client.call('hsmStatus')
  if (pinLatched)
    return [failed('hsm', 'a wrong PIN was tried once and is not tried again', 'agentca hsm unlock --pin-file FILE')]
  if (state === 'locked') return [failed('hsm', `locked: ${detail}`, 'agentca hsm unlock --pin-file FILE')]
  if (state === 'down')
    return [failed('hsm', `down: ${detail}`, 'see the server’s log; the signer is started again by itself')]
  return [
    sessions.stuck > 0
      ? warn('hsm', `${sessions.stuck} sessions are stuck`, 'agentca hsm test-sign; look after the HSM')
      : ok('hsm', `ready: ${detail}`),
  ]
}

/** What makes a key a key of an HSM; null where the token does not say. */
const keyFaults = (key: HsmKeyAnswer): readonly string[] => {
  const demands = [
    ['sensitive', key.sensitive, true],
    ['extractable', key.extractable, false],
    ['never extractable', key.neverExtractable, true],
    ['always sensitive', key.alwaysSensitive, true],
    ['local', key.local, true],
    ['sign', key.sign, true],
  ] as const
  return demands.filter(([, has, wanted]) => has === !wanted).map(([name, has]) => `${name} is ${has}`)
}

const checkKeys = async (client: AdminClient): Promise<readonly Check[]> =>
  (await client.call('hsmKeys')).items.map(key => {
    const faults = keyFaults(key)
    if (faults.length === 0) return ok('keys', `${key.label}: generated inside, cannot be taken out`)
    return failed('keys', `${key.label}: ${faults.join(', ')}`, 'generate a new key in a ceremony, and rotate to it')
  })

const checkMaintenance = async (client: AdminClient): Promise<readonly Check[]> => {
  const { state, backupAt } = await client.call('maintenanceShow')
  if (state !== 'waiting') return []
  const what = `nothing is issued: the ledger was restored from a backup of ${backupAt}`
  return [failed('maintenance', what, 'agentca backup reconcile')]
}

/** The operator's machine may be another one: a minute apart is worth a word, more breaks short-lived certificates. */
const checkClocks = async (client: AdminClient, now: number): Promise<readonly Check[]> => {
  const clock = await client.call('clockShow')
  if (clock.state === 'refused')
    return [
      failed(
        'clock',
        `the core refuses to sign: ${clock.detail}`,
        'set the clock right, or if it is: agentca clock accept',
      ),
    ]
  if (clock.state === 'unconfirmed')
    return [warn('clock', clock.detail, 'see that the clock is right, then: agentca clock accept')]
  const apart = Math.round(Math.abs(Date.parse(clock.now) - now) / 1000)
  return [
    apart > 60
      ? warn(
          'clock',
          `this machine and the server are ${apart} s apart`,
          'keep clocks right with chrony or systemd-timesyncd',
        )
      : ok('clock', clock.now),
  ]
}

const checkIssuers = async (client: AdminClient, now: number): Promise<readonly Check[]> => {
  const [issuers, crls] = [await client.call('issuersList'), await client.call('crlStatus')]
  const living = issuers.items.filter(each => each.state !== 'retired')
  // A retired CA goes on answering for its leaves: where it has a list, relying parties need a fresh one until its own end.
  const listed = issuers.items.filter(
    ({ name, state, notAfter }) =>
      state !== 'retired' || (Date.parse(notAfter) > now && crls.items.some(each => each.issuer === name)),
  )
  return [
    ...living.map(each => checkLifetime(each.name, each.kind, Date.parse(each.notAfter), now)),
    ...listed.map(({ name, kind }) => {
      const crl = crls.items.find(each => each.issuer === name)
      if (crl === undefined)
        return warn('crl age', `no CRL of ${name}`, kind === 'root' ? 'agentca ceremony crl' : 'agentca crl publish')
      const times = { thisUpdate: Date.parse(crl.thisUpdate), nextUpdate: Date.parse(crl.nextUpdate) }
      return checkCrlAge(name, kind, times, now)
    }),
  ]
}

const checkAudit = async (client: AdminClient, now: number): Promise<readonly Check[]> => {
  const { audit } = await client.call('status')
  if (audit.checkpoint === null)
    return [warn('audit', `${audit.size} leaves, none under a signed checkpoint`, 'agentca audit checkpoint')]
  const minutes = Math.round((now - Date.parse(audit.checkpoint.at)) / 60_000)
  const what = `${audit.size} leaves, the latest checkpoint is ${minutes} minutes old`
  return [
    minutes > 15 && audit.checkpoint.size < audit.size ? warn('audit', what, 'agentca hsm status') : ok('audit', what),
  ]
}

/** Nothing to say where it did not happen; for a week where it did, so that one who did not do it hears of it. */
const checkOperators = async (client: AdminClient): Promise<readonly Check[]> =>
  (await client.call('status')).recovered.map(({ operator, at }) =>
    warn(
      'operators',
      `operator ${operator} was let in by the owner of the CA’s home at ${at}`,
      `agentca audit tail --subject operator:${operator}; if nobody here did it: agentca revoke --operator ${operator} --reason keyCompromise`,
    ),
  )

/** Nothing to say where nothing leaves. */
const checkEvents = async (client: AdminClient): Promise<readonly Check[]> =>
  (await client.call('eventsStatus')).items.map(({ sink, target, state, behind, dead, error }) => {
    const what = `${sink} to ${target}: ${behind} behind, ${dead} refused for good`
    if (state === 'retrying') return warn('events', `${what}; ${error}`, 'agentca events status')
    return dead > 0 ? warn('events', what, 'see the receiver’s log; the audit log has them') : ok('events', what)
  })

/** Nothing to say where join tokens are the only evidence. */
const checkAttestors = async (client: AdminClient): Promise<readonly Check[]> =>
  (await client.call('attestorsList')).items
    .filter(({ state }) => state !== 'off')
    .map(({ name, state, authority, problem, keys }) => {
      if (state === 'ready') return ok('attestors', `${name}: ${authority}, ${keys} keys`)
      const what = `${name}: ${state}${problem === null ? '' : `, ${problem}`}`
      const cure = 'agentca attestor list; others enrol meanwhile'
      return state === 'down' ? failed('attestors', what, cure) : warn('attestors', what, cure)
    })

const attempt = async (check: string, examine: () => Promise<readonly Check[]>): Promise<readonly Check[]> => {
  try {
    return await examine()
  } catch (error) {
    const hint = isAgentCaError(error) ? error.hint : undefined
    return [failed(check, messageOf(error), hint ?? 'see the server’s log')]
  }
}

/** @throws CliError when there is no server to ask; ServerRefusal when it refuses this operator altogether */
export const checkServer = async (client: AdminClient, now: number): Promise<readonly Check[]> => {
  const { name, role, mode } = await client.call('whoami')
  return [
    ok('server', `${client.target} answers; you are ${name} with role ${role}, mode ${mode}`),
    ...(await attempt('hsm', () => checkHsm(client))),
    ...(await attempt('keys', () => checkKeys(client))),
    ...(await attempt('clock', () => checkClocks(client, now))),
    ...(await attempt('maintenance', () => checkMaintenance(client))),
    ...(await attempt('operators', () => checkOperators(client))),
    ...(await attempt('ca lifetime', () => checkIssuers(client, now))),
    ...(await attempt('audit', () => checkAudit(client, now))),
    ...(await attempt('events', () => checkEvents(client))),
    ...(await attempt('attestors', () => checkAttestors(client))),
  ]
}

export const noServer = (error: unknown): Check =>
  error instanceof ServerRefusal
    ? failed('server', messageOf(error), error.hint ?? 'connect as an operator: --url and --credential')
    : warn('server', messageOf(error), (isAgentCaError(error) ? error.hint : undefined) ?? 'agentca serve')
