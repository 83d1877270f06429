// The daemon as programs in any language have it: a directory whose files always fit together whoever renews, a program that runs with
// an identity in memory and ends with it, and a service manager that knows how it goes. Real CA, real processes.
import { type ChildProcess, spawn } from 'node:child_process'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { runProgram, type ServedCa, startServedCa } from './served-ca.ts'

const agent = join(checkout, 'bin/agentca-agent')

let ca: ServedCa
const children: ChildProcess[] = []
beforeAll(async () => {
  // Thirty renewals of one instance within seconds are more than a CA lets pass unasked.
  ca = await startServedCa({ env: { ...process.env, AGENTCA_ISSUANCE_PERINSTANCE_BURST: '1000' } })
}, 180_000)
afterAll(async () => {
  for (const child of children) child.kill('SIGKILL')
  await ca?.[Symbol.asyncDispose]()
})

const roots = () => ['--url', ca.urls.api, '--ca-fingerprint', ca.rootFingerprint]
const evidence = async (name: string) => [...roots(), '--token-file', await ca.agentToken(name)]

interface Running {
  readonly child: ChildProcess
  said(): string
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
}

const start = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Running => {
  const child = spawn(agent, args, { cwd: ca.directory, env: { ...ca.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  let said = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  return { child, said: () => said, ended }
}

const until = async (holds: () => boolean | Promise<boolean>, what: string, withinMs = 90_000): Promise<void> => {
  for (const end = Date.now() + withinMs; Date.now() < end; ) {
    if (await holds()) return
    await new Promise(resolve => setTimeout(resolve, 15))
  }
  throw new Error(`it never came that ${what}`)
}

const generationIn = (dir: string): number => {
  try {
    return (JSON.parse(readFileSync(join(dir, 'identity.json'), 'utf8')) as { generation: number }).generation
  } catch {
    return 0
  }
}
const instanceIn = (dir: string): string =>
  (JSON.parse(readFileSync(join(dir, 'identity.json'), 'utf8')) as { instance: string }).instance

/** Reads as programs do: one file in one read, and two files of one resolved generation. @throws for a key of another certificate */
const readOnce = (dir: string): void => {
  const bundle = readFileSync(join(dir, 'credential-bundle.pem'), 'utf8')
  const generation = join(dir, readlinkSync(join(dir, '..data')))
  const pairs = [[bundle, bundle.slice(bundle.indexOf('-----BEGIN CERTIFICATE'))]]
  try {
    pairs.push([readFileSync(join(generation, 'tls.key'), 'utf8'), readFileSync(join(generation, 'tls.crt'), 'utf8')])
  } catch (error) {
    // Two changes between the link and the file: the reader looks again.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  for (const [key, certificate] of pairs as [string, string][])
    if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key)))
      throw new Error(`a key that does not fit its certificate: ${certificate}`)
}

describe('run', () => {
  it('two of them on one directory renew 30 times, one after the other ends: no lock, no mixture', async () => {
    const dir = join(ca.directory, 'shared')
    const first = start(['run', '--dir', dir, ...(await evidence('shared'))])
    await until(() => generationIn(dir) === 1, 'it is enrolled')
    const other = start(['run', '--dir', dir])
    await until(() => other.said().includes('is kept alive'), 'the other one reads it')
    const mixtures: unknown[] = []
    let [reading, reads] = [true, 0]
    const reader = (async () => {
      for (; reading; reads++) {
        try {
          readOnce(dir)
        } catch (error) {
          mixtures.push(error)
        }
        await new Promise(setImmediate)
      }
    })()
    for (let generation = 2; generation <= 31; generation++) {
      if (generation === 16) {
        first.child.kill('SIGTERM')
        expect(await first.ended).toMatchObject({ code: 0 })
      }
      // The one that does not renew remembers, and renews when it takes over.
      for (const { child } of [first, other]) if (child.exitCode === null) child.kill('SIGHUP')
      await until(() => generationIn(dir) >= generation, `generation ${generation} is there`)
    }
    reading = false
    await reader
    expect(mixtures).toEqual([])
    expect(reads).toBeGreaterThan(100)
    const shown = await ca.agentcaJson<{ state: string }>('instance', 'show', instanceIn(dir))
    expect(shown.state).toBe('active')
    const status = await runProgram(agent, ['status', '--dir', dir, '-o', 'json'], { cwd: ca.directory, env: ca.env })
    expect(JSON.parse(status.out)).toMatchObject({ state: 'ok', ca: { state: 'active' } })
    expect(status.code).toBe(0)
    other.child.kill('SIGTERM')
    expect(await other.ended).toMatchObject({ code: 0 })
  }, 180_000)

  it('tells a command and a process of each change, and ends with exit code 4 and a word when it is revoked', async () => {
    const dir = join(ca.directory, 'told')
    const [log, pidFile, gone] = ['told.log', 'told.pid', 'told.gone'].map(name => join(ca.directory, name)) as [
      string,
      string,
      string,
    ]
    const listener = spawn(process.execPath, [
      '-e',
      "process.on('SIGUSR2',()=>console.log('told'));setInterval(()=>{},1e3);console.log('up')",
    ])
    children.push(listener)
    let heard = ''
    listener.stdout.setEncoding('utf8').on('data', (text: string) => {
      heard += text
    })
    await until(() => heard === 'up\n', 'the listener is up')
    writeFileSync(pidFile, `${listener.pid}\n`)
    const hooks = ['--on-change', `sh -c 'echo changed >> ${log}'`, '--on-revoked', `sh -c 'echo revoked >> ${gone}'`]
    const daemon = start([
      ...['run', '--dir', dir, ...(await evidence('told')), ...hooks],
      ...['--signal', 'USR2', '--pid-file', pidFile],
    ])
    // Other revocation lists are a change too, and come when they come.
    const told = () => heard.split('told').length - 1
    const changes = () => readFileSync(log, 'utf8').split('changed').length - 1
    await until(() => told() > 0, 'the first files were told')
    await until(() => daemon.said().includes('is kept alive'), 'it is up')
    const before = told()
    daemon.child.kill('SIGHUP')
    await until(() => generationIn(dir) === 2 && told() > before, 'the next ones were too')
    await until(() => told() === changes(), 'the process was told as often as the command ran')
    await ca.agentcaJson('revoke', '--agent', 'told', '--reason', 'keyCompromise', '--confirm', '2')
    expect(await daemon.ended).toMatchObject({ code: 4 })
    expect(daemon.said()).toContain('agentca token create')
    expect(readFileSync(gone, 'utf8')).toBe('revoked\n')
    listener.kill('SIGKILL')
  }, 180_000)

  it('tells systemd that it is ready, alive and stopping', async () => {
    const [socket, heard] = [join(ca.directory, 'notify'), join(ca.directory, 'notify.log')]
    const receiver = spawn('python3', [
      '-c',
      `import socket
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind(${JSON.stringify(socket)})
with open(${JSON.stringify(heard)},'w',buffering=1) as f:
  while True: f.write(s.recv(4096).decode()+chr(10))`,
    ])
    children.push(receiver)
    await until(() => existsSync(heard), 'somebody listens')
    const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '1000000' }
    const daemon = start(['run', '--dir', join(ca.directory, 'notifying'), ...(await evidence('notifying'))], env)
    const lines = () => readFileSync(heard, 'utf8').split('\n')
    await until(() => lines().filter(line => line === 'WATCHDOG=1').length >= 2, 'the watchdog was fed twice')
    expect(lines()[0]).toBe('READY=1')
    expect(lines()[1]).toMatch(/^STATUS=ok: spiffe:\/\/agentca\.local\/agent\/notifying\/i\//)
    daemon.child.kill('SIGTERM')
    expect(await daemon.ended).toMatchObject({ code: 0 })
    await until(() => lines().includes('STOPPING=1'), 'it said that it stops')
    receiver.kill('SIGKILL')
  }, 180_000)

  it('has a unit that systemd takes', async context => {
    const unit = join(checkout, 'docs/agentca-agent.service')
    const { code, out, err } = await runProgram('systemd-analyze', ['verify', unit], { cwd: ca.directory })
    if (code === -1) context.skip('systemd-analyze is not installed')
    // The program is not installed here; every other word of the unit is to be understood.
    const lines = `${out}${err}`.split('\n').filter(line => line.includes('agentca-agent.service'))
    expect(lines.filter(line => !/not executable|No such file/.test(line))).toEqual([])
  })
})

describe('exec', () => {
  it('gives a program files in memory that only it can read, passes its exit code, and leaves nothing', async () => {
    const script =
      'stat -c "%a %n" "$AGENTCA_DIR"; test -s "$AGENTCA_DIR/tls.key" && echo "token=$AGENTCA_TOKEN_FILE"; exit 7'
    const token = await ca.agentToken('ran')
    const run = start(['exec', ...roots(), '--', 'sh', '-c', script], { AGENTCA_TOKEN_FILE: token })
    expect(await run.ended).toEqual({ code: 7, signal: null })
    const [, mode, path] = /^(\d+) (\/dev\/shm\/\S+)\ntoken=\n/.exec(run.said()) ?? []
    expect(mode).toBe('700')
    expect(existsSync(path as string)).toBe(false)
  }, 180_000)

  it('takes its token from a descriptor, forwards signals, and ends as its program ended', async () => {
    const token = await ca.agentToken('signalled')
    const line = `exec "${agent}" exec ${roots().join(' ')} --token-fd 5 -- sh -c 'trap "echo hup" HUP; echo up; while :; do sleep 0.1; done' 5<${token}`
    const child = spawn('sh', ['-c', line], { env: ca.env, cwd: ca.directory })
    children.push(child)
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const closed = once(child, 'close')
    await until(() => said === 'up\n', 'it runs')
    child.kill('SIGHUP')
    await until(() => said === 'up\nhup\n', 'the signal arrived')
    child.kill('SIGTERM')
    expect(await closed).toEqual([null, 'SIGTERM'])
  }, 180_000)

  it('says 127 for a program that is not there', async () => {
    const run = start(['exec', ...(await evidence('absent')), '--', 'no-such-program'])
    expect(await run.ended).toMatchObject({ code: 127 })
    expect(run.said()).toContain('there is no such program')
  }, 180_000)

  it('ends the program when its identity is revoked: asked first, then made to; 4 is the exit code', async () => {
    const script = 'trap "echo asked" TERM; echo "$AGENTCA_DIR"; while :; do sleep 0.1; done'
    const run = start(['exec', ...(await evidence('ended')), '--grace', '1s', '--', 'sh', '-c', script])
    await until(() => run.said().startsWith('/dev/shm/'), 'it runs')
    const dir = run.said().split('\n')[0] as string
    await ca.agentcaJson('revoke', '--instance', instanceIn(dir), '--reason', 'keyCompromise', '--yes')
    expect(await run.ended).toMatchObject({ code: 4 })
    expect(run.said()).toContain('asked')
    expect(run.said()).toContain('agentca token create')
    expect(readdirSync('/dev/shm')).not.toContain(dir.split('/').at(-1))
  }, 180_000)

  it('ends with a revoked identity what the program started too, whether it asks for its end or hears of none', async () => {
    const inner = (trap: string): string => `sh -c 'trap "${trap}" TERM; echo "pid $$"; while :; do sleep 0.1; done'`
    const script = `echo "$AGENTCA_DIR"; ${inner('exit 0')} & ${inner('')} & wait`
    const run = start(['exec', ...(await evidence('wrapped')), '--grace', '1s', '--', 'sh', '-c', script])
    const pids = (): number[] => [...run.said().matchAll(/^pid (\d+)$/gm)].map(([, pid]) => Number(pid))
    await until(() => pids().length === 2, 'both run')
    const isAlive = (pid: number): boolean => {
      try {
        return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
      } catch {
        return false
      }
    }
    expect(pids().map(isAlive)).toEqual([true, true])
    try {
      const dir = /^\/dev\/shm\/.*$/m.exec(run.said())?.[0] as string
      await ca.agentcaJson('revoke', '--instance', instanceIn(dir), '--reason', 'keyCompromise', '--yes')
      await once(run.child, 'exit')
      expect(run.child.exitCode).toBe(4)
      expect(pids().map(isAlive)).toEqual([false, false])
    } finally {
      for (const pid of pids().filter(isAlive)) process.kill(pid, 'SIGKILL')
    }
  }, 180_000)
})

it('is executable', () => {
  expect(statSync(agent).mode & 0o111).toBe(0o111)
})
