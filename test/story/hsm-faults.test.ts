// What an HSM can do to a CA beside being slow or gone: it is full, was pulled out, fails, answers what no specification has, signs wrongly,
// or another program sits at the signer's socket. Each time nothing is issued that does not verify, status goes on, no revoked certificate is
// good, and everybody is served once it is over.
import { renameSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildPkcs11Shim, type Pkcs11Shim, type ShimControl } from '../signer/shim.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createMember, createToken, type FleetDeps, type Member, registerAgent, revoke } from './fleet.ts'
import { createCandidate, outcomeOf } from './holder.ts'
import { checkInvariants, noEvidence } from './invariants.ts'
import { createRelyingParty, type RelyingParty } from './relying-party.ts'
import { until } from './until.ts'

let shim: Pkcs11Shim
let home: StoryHome
let ca: CaProcess
let party: RelyingParty
let deps: FleetDeps
const evidence = noEvidence()
const ending = new AbortController()

beforeAll(async () => {
  shim = buildPkcs11Shim()
  home = await createStoryHome({ AGENTCA_ISSUANCE_SIGNDEADLINE: '2s' })
  const uri = home.report.tokenUri.replace(/module-path=[^&]+/, `module-path=${shim.modulePath}`)
  ca = await startCa(home, 'crash', {
    AGENTCA_HSM_URI: uri,
    AGENTCA_HSM_SOFTHSMCONF: home.report.confPath ?? '',
  })
  party = createRelyingParty(home)
  deps = { home, evidence, signal: ending.signal, retryMs: 200 }
  await registerAgent(deps, 'agent')
})
afterAll(async () => {
  ending.abort()
  shim?.set({})
  await ca?.stop()
  await party?.close()
  home?.remove()
  shim?.remove()
})

const enrolled = async (): Promise<Member> => {
  const member = createMember(deps, 'agent')
  member.join(await createToken(deps, 'agent'))
  expect(await member.act()).toBe('answered')
  return member
}

const serialOf = (member: Member): string => member.current()?.facts.serial ?? ''

/** One attempt of somebody new; the token stays good for the same key. */
const attempt = async (): Promise<string> => {
  const { token } = await createToken(deps, 'agent')
  return outcomeOf(createCandidate({ url: home.report.urls.api, rootFile: home.rootFile, token }).enrol())
}

const faults: readonly (readonly [what: string, control: ShimControl])[] = [
  ['its memory is full (CKR_DEVICE_MEMORY)', { ckr: 0x31 }],
  ['it was pulled out (CKR_DEVICE_REMOVED)', { ckr: 0x32 }],
  ['it fails (CKR_DEVICE_ERROR)', { ckr: 0x30 }],
  ['it answers what no specification has', { ckr: 0x0bad_f00d }],
  ['its signatures do not verify', { flip: 1 }],
]

describe('an HSM', () => {
  it.each(faults.map(([what, control]) => ({ what, control })))(
    '$what: 503, status and revocation go on, and it heals by itself',
    { timeout: 300_000 },
    async ({ control }) => {
      const [loyal, victim] = [await enrolled(), await enrolled()]
      expect(await party.ocsp(serialOf(loyal))).toBe('good')
      shim.set(control)
      await until('an enrolment is refused because nobody can sign', async () => {
        const outcome = await attempt()
        // Before the first failure is known it may still be signed by a session that was not asked yet.
        expect(['ok', 'signer_unavailable']).toContain(outcome)
        return outcome === 'signer_unavailable'
      })
      expect(await party.ocsp(serialOf(loyal))).toBe('good')
      await party.crl()
      const { serials } = await revoke(deps, { by: 'serial', value: serialOf(victim) })
      expect(serials).toEqual([serialOf(victim)])
      expect(['revoked', 'unavailable']).toContain(await party.ocsp(serialOf(victim)))
      shim.set({})
      await enrolled()
      expect(await loyal.act()).toBe('answered')
      await until('OCSP tells of the revocation', async () => (await party.ocsp(serialOf(victim))) === 'revoked')
      expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
    },
  )
})

describe('the signer’s socket', () => {
  it('replaced by another program’s: nothing is issued by that, and a new signer takes its place once it is gone', {
    timeout: 300_000,
  }, async () => {
    const path = home.paths.signerSocket
    renameSync(path, `${path}.away`)
    const impostor = createServer(socket => socket.end('who is there?'))
    await new Promise<void>(resolve => impostor.listen(path, resolve))
    try {
      // The connection that is open goes on; the next one is made once the signer is gone.
      await ca.arm({ afterMs: 0, kill: 'signer' })
      await ca.sprung()
      await until('nobody can sign', async () => (await attempt()) === 'signer_unavailable')
      await party.crl()
    } finally {
      await new Promise(resolve => impostor.close(resolve))
    }
    await enrolled()
    expect(await checkInvariants(home.paths.database, evidence, home.trusted)).toEqual([])
  })
})
