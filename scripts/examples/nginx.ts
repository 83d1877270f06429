// nginx with `agentca-verify` before a backend that has no library of ours.
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { agentcaJson, root } from '../demo/processes.ts'
import { revokeWhileCalling } from './orders.ts'
import type { Stage } from './stage.ts'

const freePort = (): Promise<number> =>
  new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })

export const play = async (stage: Stage): Promise<void> => {
  const { directory } = stage
  const orders = await stage.service('orders')
  const files = join(directory, 'orders')
  const evidence = ['--ca-file', stage.caFile, '--token-file', orders.tokenFile]
  await agentcaJson('enroll', '--url', stage.api, ...evidence, '--dir', files)
  const publicKey = join(directory, 'assertion.pub.pem')
  const sidecar = stage.program('agentca-verify', [
    join(root, 'bin/agentca-verify'),
    'serve',
    ...['--dir', files, '--state', join(directory, 'state'), '--public-key', publicKey],
    ...['--listen', `unix:${join(directory, 'verify.sock')}`, '--socket-mode', '0666', '--proxy', 'nginx'],
  ])
  await sidecar.next(line => line.ready === true)
  stage.step('agentca-verify decides on a unix socket, by the feed of the CA')

  const program = join(root, 'examples/nginx/backend.mjs')
  const backend = stage.program('backend', [process.execPath, program, publicKey, orders.spiffeId])
  const { port: backendPort } = await backend.next(line => line.event === 'listening')
  const port = await freePort()
  const configuration = join(directory, 'nginx.conf')
  const text = readFileSync(join(root, 'examples/nginx/nginx.conf'), 'utf8')
  const places = { DIRECTORY: directory, LISTEN: `127.0.0.1:${port}`, BACKEND: `127.0.0.1:${backendPort}` }
  writeFileSync(
    configuration,
    Object.entries(places).reduce((filled, [name, value]) => filled.replaceAll(`@${name}@`, value), text),
  )
  // Workers of root's nginx would be another user, to whom this directory is closed.
  const asRoot = process.getuid?.() === 0 ? ['-g', 'user root;'] : []
  // A user's PATH may lack /usr/sbin.
  stage.program('nginx', ['nginx', '-c', configuration, '-p', directory, ...asRoot], {
    PATH: `${process.env.PATH ?? ''}:/usr/sbin`,
  })
  stage.step(`nginx listens on 127.0.0.1:${port}`)

  const agent = await stage.agent('visitor')
  const caller = stage.typescript('typescript/agent.ts', agent, `https://localhost:${port}/`, orders.spiffeId)
  await revokeWhileCalling(stage, agent, caller)
}
