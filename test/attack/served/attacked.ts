// The CA that is attacked: made by `agentca init`, run by `agentca serve` as a process of its own, and the doors that it has. Raw bytes
// go in, and what comes back is everything until the other side hangs up.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import type { Duplex } from 'node:stream'
import { connect as tlsConnect } from 'node:tls'
import { type Ask, ask, createKey, type Reply, type Shown } from '../../http/harness.ts'
import { type CaProcess, createStoryHome, type StoryHome, startCa } from '../../story/ca-process.ts'
import { createOperator, type Operator } from '../../story/operator.ts'

export type Door = 'api' | 'status' | 'ops' | 'admin'
export const doors: readonly Door[] = ['api', 'status', 'ops', 'admin']

export interface AttackedCa extends AsyncDisposable {
  readonly home: StoryHome
  readonly ca: CaProcess
  readonly operator: Operator
  /** A connection, ready to be written to; what it meets later is the caller's to hear. */
  open(door: Door): Promise<Duplex>
  /** @returns everything that is said until the other side ends the connection */
  say(door: Door, text: string): Promise<string>
  call(path: string, asked?: Ask): Promise<Reply>
  createToken(agent: string, ...options: readonly string[]): Promise<string>
  enrol(token: string, csr: string, more?: object): Promise<Reply>
  enrolled(agent: string): Promise<{ readonly identity: Reply['body']; readonly shown: Shown }>
}

const connected = async (door: Door, line: CaProcess['line']): Promise<Duplex> => {
  if (door === 'api') {
    const socket = tlsConnect({ host: '127.0.0.1', port: portOf(line.api), rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    return socket
  }
  const socket = door === 'admin' ? connect(line.admin) : connect(portOf(line[door]), '127.0.0.1')
  await once(socket, 'connect')
  return socket
}

/** Processes that a process started; the signer is the only one of a CA's. */
export const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(each => each !== '')
    .map(Number)

export const portOf = (url: string): number => Number(new URL(url).port)

export const heardOn = async (socket: Duplex, text: string): Promise<string> => {
  let said = ''
  // Cut off in the middle of what it says, which is what some of this is for.
  socket.on('error', () => {})
  socket.setEncoding('latin1').on('data', chunk => {
    said += chunk
  })
  const closed = once(socket, 'close')
  socket.write(text, 'latin1')
  await closed
  return said
}

/** @param more configuration, as AGENTCA_* */
export const startAttackedCa = async (more: Readonly<Record<string, string>> = {}): Promise<AttackedCa> => {
  const home = await createStoryHome(more)
  const ca = await startCa(home, 'serve')
  const operator = createOperator(home.env, dirname(home.paths.home))
  const call = (path: string, asked: Ask = {}) => ask(portOf(ca.line.api), path, asked)
  const createToken: AttackedCa['createToken'] = async (agent, ...options) => {
    await operator.run(`agent create ${agent} --owner attacked`)
    return (await operator.json<{ token: string }>(['token create --agent', agent, ...options].join(' '))).token
  }
  const enrol: AttackedCa['enrol'] = (token, csr, more = {}) =>
    call('/v1/enroll', { body: { csr, evidence: { type: 'token', token }, ...more } })
  return {
    home,
    ca,
    operator,
    open: door => connected(door, ca.line),
    say: async (door, text) => heardOn(await connected(door, ca.line), text),
    call,
    createToken,
    enrol,
    enrolled: async agent => {
      const key = await createKey()
      const { status, text, body } = await enrol(await createToken(agent), key.csrText)
      if (status !== 201) throw new Error(`expected 201, got ${status}: ${text}`)
      return { identity: body, shown: { cert: body.certificate, key: key.privateKey } }
    },
    [Symbol.asyncDispose]: async () => {
      await ca.stop()
      home.remove()
    },
  }
}
