// PostgreSQL with the configuration of docs/integrations/postgresql.md: client certificates, users by common name, lists.

import { execFileSync, type StdioOptions } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { appendFileSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../setup/free-port.ts'
import { runProgram } from '../../story/served-ca.ts'
import type { RelyingParty, Scene } from '../relying-party.ts'
import { fromPage, inScratch, runShell, startServer, untilListening } from '../server-process.ts'

/** It refuses to run as root. */
const user = process.getuid?.() === 0 ? 'postgres' : undefined

const idOf = (flag: '-u' | '-g'): number => Number(execFileSync('id', [flag, user as string], { encoding: 'utf8' }))
const asUser = (): { readonly uid?: number; readonly gid?: number } =>
  user === undefined ? {} : { uid: idOf('-u'), gid: idOf('-g') }

const run = (scene: Scene, program: string, args: readonly string[], input = ''): void => {
  const stdio: StdioOptions = ['pipe', 'ignore', 'pipe']
  execFileSync(scene.found.path(program), args, { cwd: scene.scratch, input, stdio, ...asUser() })
}

const agentOf = (identity: string): string =>
  new X509Certificate(readFileSync(join(identity, 'tls.crt'))).subject.replace(/^CN=/, '')

export const postgresql: RelyingParty = {
  subject: {
    name: 'PostgreSQL',
    programs: ['postgres', 'initdb', 'pg_ctl', 'psql'],
    version: ['--version'],
    from: 'Debian: postgresql',
    atLeast: '12',
  },
  by: 'lists',
  greets: 'agent-good',
  starttls: 'postgres',
  ownFiles: { owner: user ?? null },
  start: async scene => {
    const data = inScratch(scene, 'data')
    const places = { port: await freePort(), more: { '/var/lib/postgresql/data': data } }
    mkdirSync(data, { mode: 0o700 })
    const { uid, gid } = asUser()
    if (uid !== undefined && gid !== undefined) chownSync(data, uid, gid)
    run(scene, 'initdb', ['-D', data, '--no-sync', '--auth', 'reject', '-U', 'postgres'])
    const page = (language: string, words: string) => fromPage(scene, 'postgresql', language, words, places)
    appendFileSync(join(data, 'postgresql.conf'), page('conf', 'ssl_crl_file'))
    appendFileSync(join(data, 'postgresql.conf'), `port = ${places.port}\nunix_socket_directories = ''\nfsync = off\n`)
    writeFileSync(join(data, 'pg_hba.conf'), page('conf', 'hostssl'))
    writeFileSync(join(data, 'pg_ident.conf'), page('conf', 'agents  /'))
    const role = page('sql', 'create role')
    const sql = ['good', 'revoked'].map(name => role.replaceAll('invoices', name)).join('')
    run(scene, 'postgres', ['--single', '-D', data, 'postgres'], sql)
    // SIGINT: a fast shutdown, without waiting for sessions.
    const how = { cwd: scene.scratch, end: 'SIGINT' as const, ...asUser() }
    const running = startServer(scene.found.path('postgres'), ['-D', data], how)
    await untilListening(places.port, running)
    const become = user === undefined ? '' : `runuser -u ${user} -- `
    const reload = page('sh', 'pg_ctl reload').replace('pg_ctl', `${become}${scene.found.path('pg_ctl')}`)
    return {
      port: places.port,
      reload: async () => void (await runShell(scene, reload)),
      [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
    }
  },
  call: async (scene, port, identity) => {
    const at = identity ?? '/nonexistent'
    const parameters = fromPage(scene, 'postgresql', 'sh', 'psql', {
      port,
      more: { '/etc/agents/invoices/ca.crt': join(scene.etc, 'orders/ca.crt'), '/etc/agents/invoices': at },
    })
    const name = identity === null ? 'agent-good' : agentOf(identity)
    const command = parameters
      .replace('psql', `exec ${scene.found.path('psql')} -At`)
      .replace('agent-invoices', name)
      .replace('host=orders.internal', 'host=orders.internal hostaddr=127.0.0.1')
    const { code, out, err } = await runProgram('bash', ['-ec', command], { cwd: scene.scratch })
    if (code === 0) return out.trim()
    if (code === 2 && /SSL error|requires a valid client certificate|certificate authentication failed/.test(err))
      return 'refused'
    throw new Error(`psql: exit code ${code}: ${err}`)
  },
}
