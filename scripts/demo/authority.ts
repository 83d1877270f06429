// The CA of this checkout for demonstrations: the one that runs, or one that is made and started now; and the join tokens of those who
// take part.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { agentca, agentcaJson, CommandFailed, root, type Speaker, speak } from './processes.ts'

export const home = resolve(process.env.AGENTCA_HOME ?? join(root, '.agentca'))

export interface Status {
  readonly trustDomain: string
  readonly urls: { readonly api: string; readonly status: string }
  readonly issuers: readonly { readonly name: string; readonly kind: string; readonly state: string }[]
}

export interface Ca {
  readonly status: Status
  /** null: it ran before and is left alone. */
  readonly server: Speaker | null
}

const serverLog = join(home, 'log/serve.log')

/** @param step says what was done */
export const startCa = async (step: (text: string) => void): Promise<Ca> => {
  const running = await agentca('status', '-o', 'json')
  if (running.code === 0) {
    step('a CA is running in this checkout: attached to it')
    return { status: JSON.parse(running.out) as Status, server: null }
  }
  const init = await agentcaJson<{ state: string; rootFingerprint: string; rootToken: string | null }>('init')
  if (init.state === 'initialised') step(`made a CA: root ${init.rootFingerprint}, keys generated inside SoftHSM2`)
  if (init.state === 'initialised' && init.rootToken !== null)
    step(`the root key's token is ${init.rootToken}: move it to a safe place before you rely on this CA`)
  mkdirSync(join(home, 'log'), { recursive: true, mode: 0o700 })
  const before = existsSync(serverLog) ? readFileSync(serverLog, 'utf8').length : 0
  const server = speak([join(root, 'bin/agentca'), 'serve'], { logFile: serverLog })
  const line = await server
    .next(each => each.ready === true)
    .catch(() => {
      // It ended with the exit code of its reason.
      const err = readFileSync(serverLog, 'utf8').slice(before)
      throw new CommandFailed({ code: server.child.exitCode ?? 1, out: '', err }, ['serve'])
    })
  step(`the CA is ready: ${line.api} (API), ${line.status} (CRL, OCSP), pid ${line.pid}`)
  return { status: await agentcaJson<Status>('status'), server }
}

/** A token in a file only we can read: secrets do not go through arguments. */
export const tokenFile = async (kind: 'agent' | 'service', name: string, file: string): Promise<string> => {
  const { token } = await agentcaJson<{ token: string }>('token', 'create', `--${kind}`, name)
  writeFileSync(file, `${token}\n`, { mode: 0o600 })
  return file
}
