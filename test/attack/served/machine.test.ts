// Attacks from the machine that a CA runs on, by a user that is not its own: sockets, files, what /proc shows, what a crash leaves.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type AttackedCa, childrenOf, startAttackedCa } from './attacked.ts'

let attacked: AttackedCa
beforeAll(async () => {
  attacked = await startAttackedCa()
  // What lies above the home is open to everybody: it is the home itself that has to hold.
  chmodSync(dirname(attacked.home.paths.home), 0o755)
}, 180_000)
afterAll(async () => attacked?.[Symbol.asyncDispose]())

const isRoot = process.getuid?.() === 0
const nobody = 65_534
const python = '/usr/bin/python3'

const asNobody = async (
  program: string,
  args: readonly string[],
): Promise<{ code: number | null; out: string; err: string }> => {
  const child = spawn(program, args, { uid: nobody, gid: nobody, cwd: '/', env: { PATH: '/usr/bin:/bin' } })
  const said = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', chunk => {
    said.out += chunk
  })
  child.stderr.setEncoding('utf8').on('data', chunk => {
    said.err += chunk
  })
  const [code] = await once(child, 'close')
  return { code, ...said }
}

const filesOf = (directory: string): readonly string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' }).map(name => join(directory, name))

describe('another user of the machine', () => {
  it.skipIf(!isRoot || !existsSync(python))(
    'opens neither the admin socket nor the signer’s (as root only: it becomes nobody)',
    async () => {
      const { adminSocket, signerSocket } = attacked.home.paths
      const connects = `import socket, sys
for path in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect(path)
        print('connected')
    except PermissionError:
        print('refused')`
      const { out, err } = await asNobody(python, ['-c', connects, adminSocket, signerSocket])
      expect([out, err]).toEqual(['refused\nrefused\n', ''])
    },
  )

  it.skipIf(!isRoot)('reads and changes nothing of the home (as root only: it becomes nobody)', async () => {
    const { home } = attacked.home.paths
    const find = await asNobody('/usr/bin/find', [home, '-mindepth', '1', '-readable'])
    expect(find.out).toBe('')
    for (const file of [attacked.home.paths.database, join(attacked.home.paths.tokens, 'user.pin')]) {
      expect((await asNobody('/bin/cat', [file])).code).not.toBe(0)
      expect((await asNobody('/usr/bin/touch', [file])).code).not.toBe(0)
    }
  })

  it('finds every secret in files that their modes close, should a directory ever be opened', () => {
    const { paths } = attacked.home
    const open = [...filesOf(paths.home)].filter(file => {
      const { mode } = lstatSync(file)
      return lstatSync(file).isFile() && (mode & 0o077) !== 0
    })
    // Certificates, public keys, what the status listener gives to everybody; and names, in databases that hold no secret.
    for (const file of open) {
      expect(file, file).toMatch(/\/(?:(?:issuers|status|ceremonies|api|log)\/|(?:agentca|activity)\.db|init\.json$)/)
      expect(readFileSync(file, 'latin1'), file).not.toMatch(/PRIVATE KEY|CKA_PRIVATE/)
    }
    for (const file of filesOf(paths.tokens)) expect(lstatSync(file).mode & 0o077, file).toBe(0)
  })
})

describe('what the system shows of the processes', () => {
  const processes = (): readonly number[] => [attacked.ca.line.pid, ...childrenOf(attacked.ca.line.pid)]

  it('holds no secret: neither arguments nor environment have the PIN', () => {
    const pins = ['user.pin', 'so.pin'].map(name => readFileSync(join(attacked.home.paths.tokens, name), 'utf8').trim())
    expect(processes().length).toBe(2)
    for (const pid of processes())
      for (const what of ['cmdline', 'environ'])
        for (const pin of pins) expect(readFileSync(`/proc/${pid}/${what}`, 'latin1').includes(pin)).toBe(false)
  })

  it('leaves no core dump: one octet is the most that either process may leave', () => {
    const limits = processes().map(
      pid => /^Max core file size +([01]) +([01]) /m.exec(readFileSync(`/proc/${pid}/limits`, 'utf8'))?.[0],
    )
    // One octet holds back more than none does: what the core has, its signer keeps.
    expect(limits).toEqual([expect.stringMatching(/./), limits[0]])
  })
})
