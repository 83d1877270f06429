// What `agentca doctor` finds wrong with a CA that really is: each fault is made, found with exit code 9, cured as doctor says, and gone.
import { execFileSync } from 'node:child_process'
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Check } from '../../src/cli/doctor-check.ts'
import type { CrlAnswer } from '../../src/schema/admin-answers.ts'
import { softHsmPaths } from '../../src/signer/softhsm-token.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { createCandidate } from './holder.ts'
import { createOperator, type Operator } from './operator.ts'
import { until } from './until.ts'

let home: StoryHome
let server: CaProcess
let operator: Operator

beforeAll(async () => {
  home = await createStoryHome()
  server = await startCa(home, 'serve')
  operator = createOperator(home.env, dirname(home.paths.home))
  await operator.json('agent create billing --owner finance')
  const { token } = await operator.json<{ token: string }>('token create --agent billing')
  // A leaf, so that there are URLs to be fetched.
  await createCandidate({ url: server.line.api, rootFile: home.rootFile, token }).enrol()
}, 180_000)
afterAll(async () => {
  await server?.stop()
  home?.remove()
})

const doctor = async () => {
  const { code, out } = await operator.run('doctor -o json')
  const checks = JSON.parse(out) as readonly Check[]
  const of = (status: Check['status']) => checks.filter(each => each.status === status)
  return { code, checks, failed: of('failed'), warnings: of('warn') }
}
const signerState = async (): Promise<string> => (await home.admin.call('hsmStatus')).state
const wellAgain = async (): Promise<void> => {
  await until('a signer that is ready', async () => (await signerState()) === 'ready')
  await until('a CA in order', async () => (await doctor()).code === 0)
}

const listOf = async (issuer: string): Promise<CrlAnswer> => {
  const lists = await home.admin.call('crlStatus')
  return lists.items.find(each => each.issuer === issuer) as CrlAnswer
}

/** The signer is the only process that the CA starts. */
const signerPid = (): number => {
  const { pid } = server.line
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0])
}

/** And the signer with it, which would go on with what it has open. @returns puts it back */
const takeTokenAway = (): (() => void) => {
  const { tokenDirectory } = softHsmPaths(home.paths.tokens)
  const aside = `${tokenDirectory}-aside`
  renameSync(tokenDirectory, aside)
  process.kill(signerPid(), 'SIGKILL')
  return () => renameSync(aside, tokenDirectory)
}

describe('a CA that runs', { timeout: 180_000 }, () => {
  it('is in order but for its root key on this machine: 10; and in order: 0', async () => {
    const { code, failed, warnings } = await doctor()
    expect([code, failed, warnings.map(each => each.check)]).toEqual([10, [], ['root key']])
    renameSync(home.paths.rootCeremony, join(dirname(home.paths.home), 'offline'))
    const after = await doctor()
    expect([after.code, after.failed, after.warnings]).toEqual([0, [], []])
    expect(after.checks.filter(each => each.check === 'urls')).toHaveLength(5)
  })

  it.each<[string, () => string]>([
    ['a home that others may enter', () => home.paths.home],
    ['a PIN that others may read', () => softHsmPaths(home.paths.tokens).pinFile],
    ['a first token that others may read', () => home.paths.firstOperatorToken],
    ['an admin socket that others may open', () => home.paths.adminSocket],
  ])('is not, with %s: 9, until the cure is run', async (_, path) => {
    chmodSync(path(), 0o755)
    const { code, failed } = await doctor()
    expect([code, failed.map(each => each.check)]).toEqual([9, ['permissions']])
    execFileSync('/bin/sh', ['-c', failed[0]?.cure as string])
    expect((await doctor()).code).toBe(0)
  })

  it('is not, with a signer that cannot start: 9, until its token is back', async () => {
    const bringBack = takeTokenAway()
    await until('a signer that is down', async () => (await signerState()) === 'down')
    const { code, failed } = await doctor()
    expect([code, failed.find(each => each.check === 'hsm')?.what]).toEqual([9, expect.stringMatching(/^down: /)])
    for (const { cure } of failed) expect(cure).not.toBeNull()
    bringBack()
    await wellAgain()
  })

  it('is not, with a wrong PIN, which is tried once: 9, until it is unlocked by the command that doctor names', async () => {
    const { pinFile } = softHsmPaths(home.paths.tokens)
    const pin = readFileSync(pinFile)
    writeFileSync(pinFile, 'wrong', { mode: 0o600 })
    process.kill(signerPid(), 'SIGKILL')
    await until('a locked signer', async () => (await signerState()) === 'locked')
    const { code, failed } = await doctor()
    const cure = failed.find(each => each.check === 'hsm')?.cure as string
    expect([code, cure]).toEqual([9, 'agentca hsm unlock --pin-file FILE'])
    writeFileSync(pinFile, pin, { mode: 0o600 })
    expect((await operator.run(cure.replace('agentca ', '').replace('FILE', pinFile))).code).toBe(0)
    await wellAgain()
  })
})

describe('a CA whose lists live for seconds', { timeout: 180_000 }, () => {
  it('is not in order when they have ended: 9, until they can be signed again', async () => {
    await server.stop()
    server = await startCa(home, 'serve', { AGENTCA_CRL_LIFETIME: '4s', AGENTCA_CRL_REFRESHBEFORE: '2s' })
    const bringBack = takeTokenAway()
    const stale = (each: Check): boolean => each.check === 'crl age' && /past its nextUpdate/.test(each.what)
    await until('a list past its end', async () => Date.parse((await listOf('issuing-1')).nextUpdate) <= Date.now())
    const { code, failed } = await doctor()
    expect([code, failed.find(stale)?.cure]).toEqual([9, 'agentca crl publish'])
    bringBack()
    await until('a signer that is ready', async () => (await signerState()) === 'ready')
    expect((await operator.run('crl publish')).code).toBe(0)
    expect((await doctor()).failed.filter(stale)).toEqual([])
  })

  it('is examined without a server too: 9 when the published list has ended', async () => {
    await server.stop()
    await until('a list past its end', async () => (await doctor()).code === 9)
    const { failed, warnings } = await doctor()
    expect([failed.map(each => each.check), warnings.some(each => each.check === 'server')]).toEqual([
      ['crl age'],
      true,
    ])
  })
})
