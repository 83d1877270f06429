// The signer by itself: its process and the one that keeps it alive, without a core. A unit of its own runs it, under a user of its own;
// cores come to its socket.
import { readFileSync } from 'node:fs'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { createSignerClient } from '../signer/client.ts'
import { parseSignerConfig } from '../signer/config.ts'
import { readIfPresent } from '../signer/durable-file.ts'
import { createSignerSupervisor } from '../signer/supervisor.ts'
import { ServerError } from './errors.ts'
import { signerConfigFile } from './separate-signer.ts'

export interface ServedSigner {
  readonly line: { readonly signer: string; readonly detail: string; readonly socket: string; readonly pid: number }
  /** A new process, for a configuration that was changed. */
  restart(): Promise<void>
  close(): Promise<void>
}

export interface ServeSignerOptions {
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
}

/** As long as a first start may take: module, login, keys, a test signature each. */
const startMs = 30_000

/** One that is locked, or whose token is away, is served all the same: it says so, and an operator unlocks it. */
export const serveSigner = async ({ directory, clock, log }: ServeSignerOptions): Promise<ServedSigner> => {
  const configFile = signerConfigFile(directory)
  if (readIfPresent(configFile) === null)
    throw new ServerError('not_initialised', `there is no ${configFile}`, { hint: 'agentca signer separate' })
  const { socket, sessions } = parseSignerConfig(readFileSync(configFile, 'utf8'))
  const client = createSignerClient({ socket, clock, log })
  const supervisor = createSignerSupervisor({ configFile, sessions, client, clock, log })
  await supervisor.ready(startMs).catch(error => log.error({ err: error }, 'the signer is not ready'))
  const { state, detail } = supervisor.state()
  return {
    line: { signer: state, detail, socket, pid: process.pid },
    restart: supervisor.restart,
    close: async () => {
      await supervisor.close()
      await client.close()
    },
  }
}
