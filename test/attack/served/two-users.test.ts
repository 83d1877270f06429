// A CA whose signer has a user of its own: whoever has the core's user, and so can run any code in its place, gets signatures that pass
// the signer's checks, and neither PIN nor token nor counts nor a say in what is signed.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ask, createKey } from '../../http/harness.ts'
import { createStoryHome, type StoryHome } from '../../story/ca-process.ts'
import { type Ran, runProgram } from '../../story/served-ca.ts'
import { until } from '../../story/until.ts'
import { childrenOf } from './attacked.ts'

/** Users that are only numbers are users to the kernel; these two have no name here. */
const core = { uid: 61_001, gid: 61_001 }
const signerUser = { uid: 61_002, gid: core.gid }
const main = join(import.meta.dirname, '../../../src/cli/main.ts')

const whyNot = await (async (): Promise<string | null> => {
  if (process.getuid?.() !== 0) return 'as root only'
  const { code } = await runProgram(
    'setpriv',
    [`--reuid=${core.uid}`, `--regid=${core.gid}`, '--clear-groups', process.execPath, main, 'version'],
    { cwd: '/' },
  )
  return code === 0 ? null : 'other users can read the checkout only'
})()

const giveTo = (path: string, { uid, gid }: { uid: number; gid: number }): void => {
  if (lstatSync(path).isDirectory()) for (const name of readdirSync(path)) giveTo(join(path, name), { uid, gid })
  lchownSync(path, uid, gid)
}

let home: StoryHome
let directory: string
let signerDirectory: string
let socket: string
const running: ChildProcess[] = []

const startAs = async (
  user: { uid: number; gid: number },
  args: readonly string[],
  more: Readonly<Record<string, string>> = {},
) => {
  const child = spawn(process.execPath, [main, ...args], {
    ...user,
    cwd: '/',
    env: { ...home.env, ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.push(child)
  let log = ''
  child.stderr!.setEncoding('utf8').on('data', chunk => {
    log += chunk
  })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`${args.join(' ')} ended with ${code}\n${log}`)
  }) as Promise<never>
  ended.catch(() => {})
  const [line] = await Promise.race([
    once(createInterface({ input: child.stdout! }), 'line') as Promise<[string]>,
    ended,
  ])
  return { child, line: JSON.parse(line), log: () => log }
}
const stop = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await ended
}
const as = ({ uid, gid }: { uid: number; gid: number }, program: string, ...args: readonly string[]): Promise<Ran> =>
  runProgram('setpriv', [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', program, ...args], {
    cwd: '/',
    env: { ...home.env, PATH: '/usr/bin:/bin', AGENTCA_SIGNER_SOCKET: socket },
  })
const agentca = (...args: readonly string[]): Promise<Ran> => as(core, process.execPath, main, ...args)

describe.skipIf(whyNot !== null)(`a signer under a user of its own${whyNot === null ? '' : ` (${whyNot})`}`, () => {
  let attached: Awaited<ReturnType<typeof startAs>>
  let separate: Awaited<ReturnType<typeof startAs>>

  beforeAll(async () => {
    home = await createStoryHome()
    directory = dirname(home.paths.home)
    signerDirectory = join(directory, 'signer-home')
    socket = join(directory, 'run-signer', 'signer.sock')
    chmodSync(directory, 0o755)
    mkdirSync(join(directory, 'compiled'), { recursive: true })
    chmodSync(join(directory, 'compiled'), 0o777)
    giveTo(home.paths.home, core)
    // As systemd's RuntimeDirectory= makes it.
    mkdirSync(dirname(socket), { mode: 0o750 })
    chownSync(dirname(socket), signerUser.uid, signerUser.gid)
    const first = await startAs(core, ['serve'])
    const early = await agentcaAsRoot('signer', 'separate', '--directory', signerDirectory)
    expect([early.code, early.err]).toEqual([6, expect.stringContaining('a server is running')])
    await stop(first.child)
    const own = [
      '--directory',
      signerDirectory,
      '--socket',
      socket,
      '--user',
      String(signerUser.uid),
      '--group',
      String(signerUser.gid),
    ]
    const dry = await agentcaAsRoot('signer', 'separate', '--dry-run', ...own)
    expect([dry.code, existsSync(signerDirectory)]).toEqual([0, false])
    const moved = await agentcaAsRoot('signer', 'separate', ...own)
    expect([moved.code, moved.err]).toEqual([0, expect.stringContaining(`socket: ${socket}`)])
    separate = await startAs(signerUser, ['signer', 'serve', '--directory', signerDirectory])
    attached = await startAs(core, ['serve'], { AGENTCA_SIGNER_SOCKET: socket })
  }, 180_000)
  afterAll(async () => {
    for (const child of running.toReversed()) await stop(child)
    home?.remove()
  })

  const agentcaAsRoot = (...args: readonly string[]): Promise<Ran> =>
    runProgram(process.execPath, [main, ...args], { cwd: directory, env: home.env })

  it('signs for the core what passes its checks: an agent enrols, lists are published, counts are told', async () => {
    expect(separate.line).toMatchObject({ signer: 'ready', socket })
    await enrolOne('by-two-users')
    const status = JSON.parse((await agentca('hsm', 'status', '-o', 'json')).out)
    expect(status.state).toBe('ready')
    expect((await agentca('crl', 'publish')).code).toBe(0)
  })

  const enrolOne = async (name: string): Promise<void> => {
    expect((await agentca('agent', 'create', name, '--owner', 'o')).code).toBe(0)
    const { token } = JSON.parse((await agentca('token', 'create', '--agent', name, '-o', 'json')).out)
    const body = { csr: (await createKey()).csrText, evidence: { type: 'token', token } }
    const reply = await ask(Number(new URL(attached.line.api).port), '/v1/enroll', { body })
    expect([reply.status, reply.text]).toEqual([201, expect.any(String)])
  }

  it('shows the user of the core neither PIN nor token nor counts, and takes no configuration from it', async () => {
    expect(existsSync(home.paths.tokens) || existsSync(home.paths.signer)).toBe(false)
    const passphrase = join(directory, 'passphrase')
    writeFileSync(passphrase, 'a passphrase of some length\n', { mode: 0o644 })
    const to = join(directory, 'keys.backup')
    const backup = await agentca('backup', 'create', to, '--with-tokens', '--passphrase-file', passphrase)
    expect([backup.code, backup.err]).toEqual([6, expect.stringContaining('there is no token')])
    for (const path of ['tokens/user.pin', 'tokens/so.pin', 'signer.json', 'state/counters.json'].map(each =>
      join(signerDirectory, each),
    )) {
      expect((await as(core, '/bin/cat', path)).code, path).not.toBe(0)
      expect((await as(core, '/usr/bin/touch', path)).code, path).not.toBe(0)
    }
    expect((await as(core, '/bin/rm', '-f', socket)).code).not.toBe(0)
    // Nor by the processes themselves: their memory and environment are another user's.
    const pids = [separate.child.pid!, ...childrenOf(separate.child.pid!)]
    expect(pids.length).toBeGreaterThan(1)
    for (const pid of pids) {
      expect((await as(core, '/bin/cat', `/proc/${pid}/environ`)).code).not.toBe(0)
      expect((await as(core, '/bin/kill', '-0', String(pid))).code).not.toBe(0)
    }
  })

  it('is closed to everybody else, and its user reads nothing of the core’s', async () => {
    const { mode, uid, gid } = statSync(socket)
    expect([(mode & 0o777).toString(8), uid, gid]).toEqual(['660', signerUser.uid, signerUser.gid])
    expect((await as({ uid: 61_003, gid: 61_003 }, '/bin/ls', dirname(socket))).code).not.toBe(0)
    expect((await as(signerUser, '/bin/cat', home.paths.database)).code).not.toBe(0)
    expect((await as(signerUser, '/bin/ls', home.paths.home)).code).not.toBe(0)
  })

  it('takes no PIN over a socket that others open: it would pass them', async () => {
    const file = join(directory, 'typed.pin')
    writeFileSync(file, '1234\n', { mode: 0o644 })
    const { code, err } = await agentca('hsm', 'unlock', '--pin-file', file)
    expect([code === 0, err]).toEqual([false, expect.stringContaining('takes its PIN from its own file only')])
  })

  it('is told by root of the key of another issuing CA, and the core issues under it', async () => {
    const input = join(directory, 'issuing-2.yaml')
    const lines = [
      'ceremony: issuing',
      'name: issuing-2',
      'issuer: { name: root-1 }',
      'subject: { organization: agentca.local, commonName: agentca issuing 2 }',
      'key: { algorithm: P-256 }',
      'lifetime: 365d',
      'pathLength: 0',
      'trustDomain: agentca.local',
      `statusUrl: ${home.report.urls.status}`,
    ]
    writeFileSync(input, `${lines.join('\n')}\n`)
    const tokens = join(signerDirectory, 'tokens')
    const certificate = join(home.paths.issuers, 'issuing-2.pem')
    const made = await agentcaAsRoot('ceremony', 'issuing', '--input', input, '--token-dir', tokens)
    expect([made.code, made.err]).toEqual([0, expect.any(String)])
    giveTo(tokens, signerUser)
    giveTo(home.paths.home, core)
    const told = ['signer', 'add-key', 'issuing-2', '--certificate', certificate, '--directory', signerDirectory]
    expect((await agentca(...told)).code).not.toBe(0)
    expect(await agentcaAsRoot(...told)).toMatchObject({ code: 0 })
    separate.child.kill('SIGHUP')
    await until('the core sees the key', async () => (await agentca('hsm', 'status')).out.includes('issuing-2'))
    for (const verb of [
      ['prepare', 'issuing-2', '--certificate', certificate],
      ['activate', 'issuing-2'],
    ])
      expect(await agentca('ca', ...verb, '--confirm', 'issuing-2')).toMatchObject({ code: 0 })
    await enrolOne('under-the-next')
  })

  it('that dies comes back by itself, and the core goes on with it', async () => {
    const [victim] = childrenOf(separate.child.pid!)
    process.kill(victim!, 'SIGKILL')
    await until('another signer process', () => childrenOf(separate.child.pid!).some(pid => pid !== victim))
    await until('the core sees it', async () => (await agentca('hsm', 'status')).code === 0)
    await enrolOne('after-its-end')
  })

  it('that is away is told by the core with the way to it, while lists go on', async () => {
    await stop(separate.child)
    await until('the core misses it', async () => (await agentca('hsm', 'status')).code === 7)
    const { out } = await agentca('hsm', 'status', '-o', 'json')
    expect(JSON.parse(out).detail).toContain(socket)
    const list = await fetch(`${attached.line.status}/crl/issuing-1.crl`)
    expect(list.status).toBe(200)
    separate = await startAs(signerUser, ['signer', 'serve', '--directory', signerDirectory])
    await until('the core sees it again', async () => (await agentca('hsm', 'status')).code === 0)
    await enrolOne('after-its-return')
  })

  it('and doctor says whose it is, also while no server runs', async () => {
    await stop(attached.child)
    const { out } = await agentca('doctor')
    expect(out).toContain(`a signer under a user of its own, on ${socket}`)
  })
})
