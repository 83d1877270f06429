// The two daemons of docs/relying-parties.md, which keep a server's files new and reload it: nobody else touches it here.
import { join } from 'node:path'
import { expect } from 'vitest'
import { root as checkout } from '../../../scripts/bootstrap.mjs'
import { blockWith } from '../../setup/documents.ts'
import { until } from '../../story/until.ts'
import { compat } from '../compat.ts'
import { http, sceneOf, shownSerial } from '../relying-party.ts'
import { placed, startServer } from '../server-process.ts'
import { serialOf } from '../world.ts'
import { nginx } from './nginx.ts'

const [party] = nginx.filter(({ by }) => by === 'lists')

export const keptNew = (): void => {
  const { subject, start, greets } = party!
  compat(subject, 'follows revocations and renewals by the daemons of docs/relying-parties.md alone', async found => {
    const scene = await sceneOf({ ...party!, ownFiles: { owner: null } }, found)
    await using ends = new AsyncDisposableStack()
    const server = ends.use(await start(scene))
    const { text } = blockWith('docs/relying-parties.md', 'sh', 'agentca-agent run')
    const reload = `${found.path('nginx')} -c ${join(scene.scratch, 'nginx.conf')} -s reload`
    const commands = placed(scene, text, { port: server.port, more: { 'nginx -s reload': reload } })
      .trim()
      .split(/ &\n?/)
      .filter(Boolean)
    expect(commands).toHaveLength(2)
    const begin = (command: string | undefined) => {
      const line = `exec ${join(checkout, 'bin')}/${command}`
      return ends.use(startServer('bash', ['-ec', line], { cwd: scene.scratch, env: scene.world.ca.env }))
    }
    // The first one is the one that renews, then; in life either may be.
    const agent = begin(commands[0])
    await until('agentca-agent is ready', () => agent.log().includes('is kept alive'), agent.log)
    const verify = begin(commands[1])
    const state = () => [agent.log(), verify.log()]
    const call = (who: string) => http(scene, server.port, join(scene.world.etc, who))
    // The list that nginx began with is from before.
    await until('the revoked agent is refused', async () => (await call('revoked')) === 'refused', state)

    const before = serialOf(join(scene.etc, 'orders'))
    expect(await shownSerial(server.port)).toBe(before)
    // It renews now.
    agent.child.kill('SIGHUP')
    const renewed = async () => {
      const shown = await shownSerial(server.port)
      return shown !== before && shown === serialOf(join(scene.etc, 'orders'))
    }
    await until('the renewed certificate is shown', renewed, state)
    expect(await call('good')).toBe(greets)
  })
}
