// What `npm start` does once the machine is set up: a CA in `.agentca/` (or the one that runs there already), and then the main job for
// real, in processes of their own: an agent enrols and calls a backend over mTLS, the operator revokes it, the next call is refused.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Ca, home, type Status, startCa, tokenFile } from './authority.ts'
import { agentca, agentcaJson, CommandFailed, type Speaker, speak } from './processes.ts'

const readFlags = () => {
  try {
    return parseArgs({
      options: { once: { type: 'boolean', default: false }, 'no-demo': { type: 'boolean', default: false } },
    }).values
  } catch (error) {
    process.stderr.write(`agentca: ${(error as Error).message.split('.')[0]}: expected --once or --no-demo\n`)
    process.exit(2)
  }
}
const flags = readFlags()
const startedAt = Date.now()

const step = (text: string): void => {
  process.stdout.write(`${((Date.now() - startedAt) / 1000).toFixed(2).padStart(7)} s  ${text}\n`)
}

/** By a signal, or because nobody reads any more (`npm start | head`): either way no CA is left behind. */
const interrupted = new Promise<void>(done => {
  process.once('SIGINT', () => done())
  process.once('SIGTERM', () => done())
  process.stdout.on('error', () => done())
})

const tsProgram = (name: string): string => join(import.meta.dirname, name)

const demonstrate = async ({ status }: Ca, speakers: Speaker[]): Promise<void> => {
  const directory = join(home, 'demo')
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const issuer = status.issuers.find(each => each.kind === 'issuing' && each.state === 'active')
  if (issuer === undefined) throw new Error('no issuing CA is active')
  const paths = { AGENTCA_URL: status.urls.api, AGENTCA_CA_FILE: join(home, 'issuers/root-1.pem') }
  const spoken = (name: string, args: readonly string[], env: Readonly<Record<string, string>>): Speaker => {
    const speaker = speak([process.execPath, tsProgram(`${name}.ts`), ...args], {
      env: { ...paths, ...env },
      logFile: join(directory, `${name}.log`),
    })
    speakers.push(speaker)
    return speaker
  }

  const created = await agentca('service', 'create', 'demo-backend', '--dns', 'localhost')
  if (created.code !== 0 && created.code !== 6) throw new CommandFailed(created, ['service', 'create'])
  const backendDirectory = join(directory, 'backend')
  const backend = spoken('backend', [], {
    AGENTCA_DIR: backendDirectory,
    AGENTCA_TOKEN_FILE: await tokenFile('service', 'demo-backend', join(directory, 'backend.token')),
  })
  const { port } = await backend.next(line => line.event === 'listening')
  step(`a backend with an identity of its own listens on 127.0.0.1:${port} and follows the CA's feed`)

  const name = `demo-${startedAt.toString(36)}`
  await agentcaJson('agent', 'create', name, '--owner', 'demo', '--purpose', 'the demonstration of npm start')
  const agentToken = await tokenFile('agent', name, join(directory, 'agent.token'))
  step(`registered agent ${name} and made a join token for one enrolment`)
  const agent = spoken('agent', [`https://127.0.0.1:${port}/`, `spiffe://${status.trustDomain}/service/demo-backend`], {
    AGENTCA_TOKEN_FILE: agentToken,
  })
  const accepted = agent.next(line => line.event === 'called' && line.status === 200)
  const refused = agent.next(line => line.event === 'called' && line.status === 403)
  refused.catch(() => {})
  const enrolled = await agent.next(line => line.event === 'enrolled')
  const serial = String(enrolled.serial)
  step(`the agent enrolled in one round trip: ${enrolled.spiffeId}, serial ${serial}`)
  await accepted
  step('its calls over mTLS are accepted, one every 100 ms')

  const revokedAt = Date.now()
  const revoked = await agentca('revoke', '--agent', name, '--reason', 'keyCompromise', '--confirm', '1', '--yes')
  if (revoked.code !== 0) throw new CommandFailed(revoked, ['revoke'])
  step(`the operator revoked it: agentca revoke --agent ${name} --reason keyCompromise`)
  const first = await refused
  step(`first call refused ${Number(first.at) - revokedAt} ms after the operator's command began (403)`)

  await findInCrl(`${status.urls.status}/crl/${issuer.name}.crl`, serial, join(directory, `${issuer.name}.crl`))
  step(`openssl finds serial ${serial} in the published CRL`)
}

/** The feed is faster than the list, which follows within a second. */
const findInCrl = async (url: string, serial: string, file: string): Promise<void> => {
  for (let tries = 0; tries < 50; tries++) {
    writeFileSync(file, new Uint8Array(await (await fetch(url)).arrayBuffer()))
    const text = execFileSync('openssl', ['crl', '-inform', 'DER', '-in', file, '-noout', '-text'], {
      encoding: 'utf8',
    })
    if (text.toLowerCase().includes(serial)) return
    await sleep(100)
  }
  throw new Error(`openssl does not find serial ${serial} in ${file}`)
}

const next = (status: Status): string => `
What to try next:
  ./bin/agentca status                                   one screen about this CA
  ./bin/agentca agent create NAME --owner YOU            register an agent
  ./bin/agentca token create --agent NAME                a join token for it
  ./bin/agentca enroll --url ${status.urls.api} --ca-file ${relative(process.cwd(), join(home, 'issuers/root-1.pem'))} --token-file FILE --dir DIR
  ./bin/agentca revoke --agent NAME --reason keyCompromise
  ./bin/agentca audit tail                               what happened, and what was refused
`

const main = async (): Promise<void> => {
  const ca = await startCa(step)
  const speakers: Speaker[] = []
  const stop = (): Promise<void> => (ca.server === null ? Promise.resolve() : ca.server.stop())
  try {
    if (!flags['no-demo']) {
      try {
        await demonstrate(ca, speakers)
      } finally {
        await Promise.all(speakers.map(speaker => speaker.stop()))
      }
    }
  } catch (error) {
    await stop()
    throw error
  }
  if (flags.once) return stop()
  process.stdout.write(next(ca.status))
  if (ca.server === null) return
  step('the CA keeps running; Ctrl-C ends it')
  await interrupted
  await stop()
}

main().catch((error: Error) => {
  process.stderr.write(`agentca: ${error.message}\n`)
  process.exit(error instanceof CommandFailed ? error.code : 1)
})
