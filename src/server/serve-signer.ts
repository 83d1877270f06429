// The signer by itself: its process and the one that keeps it alive, without a core. A unit of its own runs it, under a user of its own;
// cores come to its socket.
import { readFileSync } from 'node:fs'
import type { Clock } from '../base/clock.ts'
import type { Log } from '../base/log.ts'
import { keyFaults } from '../ca/issuer-rotation.ts'
import { parseCertificate } from '../pki/certificate.ts'
import { parseOnePem } from '../pki/pem.ts'
import { createSignerClient, type SignerClient } from '../signer/client.ts'
import { parseSignerConfig } from '../signer/config.ts'
import { readIfPresent } from '../signer/durable-file.ts'
import { TokenError } from '../signer/errors.ts'
import { createSignerSupervisor } from '../signer/supervisor.ts'
import { ServerError } from './errors.ts'
import { signerConfigFile } from './separate-signer.ts'

export interface ServedSigner {
  readonly line: { readonly signer: string; readonly detail: string; readonly socket: string; readonly pid: number }
  /** A new process, for a configuration that was changed; one that no signer could start with is logged, and the present process goes on. */
  reload(): Promise<void>
  close(): Promise<void>
}

export interface ServeSignerOptions {
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
}

/** As long as a first start may take: module, login, keys, a test signature each. */
const startMs = 30_000

/** What the signer would not start with, as far as the present one can tell: it has the token open. @throws TokenError, PkiError, SignerError */
const checkStartable = async (text: string, client: SignerClient): Promise<void> => {
  const { keys } = parseSignerConfig(text)
  // One that is not ready signs nothing that a new one could stop, and a new one may be its cure.
  if ((await client.health()).state !== 'ready') return
  const present = await client.keys()
  for (const { label, certificate } of keys) {
    const [key, another] = present.filter(each => each.label === label)
    if (key === undefined) throw new TokenError('key_not_found', `the token has no key labelled ${label}`)
    if (another !== undefined) throw new TokenError('key_ambiguous', `the token has several keys labelled ${label}`)
    const faults = keyFaults(key)
    if (faults.length > 0) throw new TokenError('key_unsafe', `key ${label}: ${faults.join('; ')}`)
    if (certificate === undefined || key.spkiSha256Hex === null) continue
    const { spkiHashHex } = parseCertificate(parseOnePem(certificate, 'CERTIFICATE'))
    if (key.spkiSha256Hex !== spkiHashHex)
      throw new TokenError('key_mismatch', `key ${label} of the token is not the one in its certificate`)
  }
}

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
  const reload = async (): Promise<void> => {
    try {
      await checkStartable(readFileSync(configFile, 'utf8'), client)
    } catch (error) {
      log.error(
        {
          err: error,
          hint: `correct ${configFile} (agentca signer add-key wrote what it was given), then reload again`,
        },
        'the changed configuration is not taken: the signer goes on with the one it has',
      )
      return
    }
    await supervisor.restart()
  }
  // One after the other: the last one sees the last configuration.
  let reloads = Promise.resolve()
  return {
    line: { signer: state, detail, socket, pid: process.pid },
    reload: () => {
      reloads = reloads.then(reload).catch(error => log.error({ err: error }, 'the signer was not restarted'))
      return reloads
    },
    close: async () => {
      await supervisor.close()
      await client.close()
    },
  }
}
