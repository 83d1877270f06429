// The signer process: a unix socket that only its owner can open, or its group, frames in and out, and an end when the parent, the module or an
// operator says so. What requests mean is in service.ts.
import { chmodSync, existsSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '../base/clock.ts'
import { messageOf } from '../base/errors.ts'
import { createFrameReader, createFrameWriter, encodeFrame, type Frame } from '../base/frames.ts'
import type { Log } from '../base/log.ts'
import type { SignerConfig } from './config.ts'
import { SignerError, TokenError } from './errors.ts'
import {
  errorHeaderOf,
  hello,
  isHello,
  maxSmallBodyBytes,
  parseRequestHeader,
  type RequestHeader,
  type ResponseHeader,
} from './protocol.ts'
import { createSignerService, type SignerService } from './service.ts'

/** sysexits' EX_TEMPFAIL: only a new process can help. */
export const exitRestart = 75
/** sysexits' EX_CONFIG: a new process would fail the same way. */
export const exitConfig = 78

const empty = new Uint8Array(0)

const asSignerError = (error: unknown, log: Log): SignerError => {
  if (error instanceof SignerError) return error
  log.error(
    { reason: messageOf(error), stack: error instanceof Error ? error.stack : undefined },
    'unexpected error in a request',
  )
  return new SignerError('hsm_error', 'internal error in the signer', { hsmCalled: 'maybe' })
}

const answer = async (
  service: SignerService,
  header: Exclude<RequestHeader, { readonly op: 'sign' }>,
  body: Uint8Array,
): Promise<unknown> => {
  switch (header.op) {
    case 'health':
      return service.health()
    case 'keys':
      return service.keys()
    case 'unlock':
      return service.unlock(body)
  }
}

const serveConnection = (socket: Socket, service: SignerService, deps: { config: SignerConfig; log: Log }): void => {
  const write = createFrameWriter(bytes => {
    if (!socket.destroyed) socket.write(bytes)
  })
  let greeted = false
  const respond = (header: ResponseHeader, body: Uint8Array): void => write(encodeFrame(header, body))
  const refuse = (id: number, error: unknown): void =>
    respond({ id, ok: false, error: errorHeaderOf(asSignerError(error, deps.log)) }, empty)
  const sign = (request: Extract<RequestHeader, { readonly op: 'sign' }>, tbs: Uint8Array): void => {
    const { id, purpose, key, priority, deadlineMs } = request
    try {
      const signed = service.sign({ purpose, key, priority, deadlineMs, tbs })
      // Most are made when this returns; all answers of a turn leave in one write.
      if (signed instanceof Uint8Array) respond({ id, ok: true }, signed)
      else
        signed.then(
          signature => respond({ id, ok: true }, signature),
          error => refuse(id, error),
        )
    } catch (error) {
      refuse(id, error)
    }
  }
  const onFrame = ({ header, body }: Frame): void => {
    if (!greeted) {
      if (!isHello(header)) throw new SignerError('signer_unavailable', 'another protocol version', { hsmCalled: 'no' })
      greeted = true
      return
    }
    const request = parseRequestHeader(header)
    if (request === null)
      throw new SignerError('signer_unavailable', 'not a request of this protocol', { hsmCalled: 'no' })
    if (request.op === 'sign') sign(request, body)
    else
      answer(service, request, body).then(
        result => respond({ id: request.id, ok: true, result }, empty),
        error => refuse(request.id, error),
      )
  }
  const limit = (header: Frame['header']): number =>
    header.op === 'sign' && header.purpose === 'crl' ? deps.config.maxTbsBytes : maxSmallBodyBytes
  const read = createFrameReader(limit, onFrame)
  write(encodeFrame(hello, empty))
  socket.setTimeout(0)
  socket.on('data', (chunk: Buffer) => {
    try {
      read(chunk)
    } catch (error) {
      deps.log.warn({ reason: messageOf(error) }, 'connection closed')
      socket.destroy()
    }
  })
  socket.on('error', () => socket.destroy())
}

/** Whether a live signer answers on the socket; one that hangs says nothing and does not count. */
const answers = (path: string): Promise<boolean> =>
  new Promise(resolve => {
    const socket = createConnection(path)
    const done = (alive: boolean): void => {
      socket.destroy()
      resolve(alive)
    }
    socket.setTimeout(1000, () => done(false))
    socket.once('data', () => done(true))
    socket.once('error', () => done(false))
  })

/** Whoever may write there could put a socket of its own in this one's place. @throws TokenError `signer_config_invalid` */
const checkSocketDirectory = (directory: string): void => {
  const { mode } = statSync(directory)
  if ((mode & 0o022) === 0) return
  throw new TokenError(
    'signer_config_invalid',
    `others than its owner may write to ${directory}, where the socket is`,
    {
      hint: `chmod 0750 ${directory}`,
    },
  )
}

const claimSocket = async ({ socket: path, access }: SignerConfig): Promise<void> => {
  const made = mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  if (access === 'group') {
    if (made !== undefined) chmodSync(dirname(path), 0o750)
    checkSocketDirectory(dirname(path))
  }
  // A core that was restarted may be faster than the end of its old signer. Two signers would share counters and marks.
  for (let tries = 0; existsSync(path) && (await answers(path)); tries++) {
    if (tries === 30)
      throw new TokenError('signer_config_invalid', `another signer is running on ${path}`, { hint: 'stop it first' })
    await sleep(100)
  }
  rmSync(path, { force: true })
}

export interface SignerProcess {
  readonly service: SignerService
  /** Another signer took the socket while this process hung, and counts on from what this one had reserved. */
  isReplaced(): boolean
  close(): Promise<void>
}

/**
 * Listens first, then opens the token: a locked or broken signer still says why.
 * @param onRestart called once when only a new process can help
 */
export const runSignerProcess = async (
  config: SignerConfig,
  deps: { readonly clock: Clock; readonly log: Log; readonly onRestart: (reason: string) => void },
): Promise<SignerProcess> => {
  process.umask(0o077)
  mkdirSync(config.stateDirectory, { recursive: true, mode: 0o700 })
  await claimSocket(config)
  const service = createSignerService({ config, clock: deps.clock, log: deps.log })
  const sockets = new Set<Socket>()
  const server: Server = createServer({ noDelay: true }, socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    serveConnection(socket, service, { config, log: deps.log })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(config.socket, resolve)
  })
  // A socket made under umask 077 is 0700; nobody executes one.
  chmodSync(config.socket, config.access === 'group' ? 0o660 : 0o600)
  // Not used again while a socket is bound to it.
  const inode = statSync(config.socket).ino
  const outcome = await service.start()
  if (outcome === 'restart') deps.onRestart(service.health().detail)
  let wasReady = service.health().state === 'ready'
  const watch = setInterval(() => {
    void service.probe()
    const { state, detail, sessions } = service.health()
    // Hanging calls are the supervisor's to judge; a module that answered with a fatal code is ours.
    if (wasReady && state === 'down' && sessions.stuck === 0) deps.onRestart(detail)
    wasReady = state === 'ready' || (wasReady && state === 'down')
  }, 250)
  return {
    service,
    isReplaced: () => {
      const found = statSync(config.socket, { throwIfNoEntry: false })
      return found !== undefined && found.ino !== inode
    },
    async close() {
      clearInterval(watch)
      // The socket says that somebody is here, until the counts are written: whoever follows reads them.
      await service.close()
      server.close()
      for (const socket of sockets) socket.destroy()
      rmSync(config.socket, { force: true })
    },
  }
}
