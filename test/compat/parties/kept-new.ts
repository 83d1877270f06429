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
    const daemons = placed(scene, text, { port: server.port, more: { 'nginx -s reload': reload } })
      .trim()
      .split(/ &\n?/)
      .filter(Boolean)
      .map(line =>
        startServer('bash', ['-ec', `exec ${join(checkout, 'bin')}/${line}`], {
          cwd: scene.scratch,
          env: scene.world.ca.env,
        }),
      )
    for (const daemon of daemons) ends.use(daemon)
    expect(daemons).toHaveLength(2)
    const call = (who: string) => http(scene, server.port, join(scene.world.etc, who))
    // The list that nginx began with is from before.
    const state = () => daemons.map(daemon => daemon.log())
    await until('the revoked agent is refused', async () => (await call('revoked')) === 'refused', state)

    const before = serialOf(join(scene.etc, 'orders'))
    expect(await shownSerial(server.port)).toBe(before)
    // SIGHUP renews now; either of the two may be the one that renews, and the other one says so.
    await until(
      'the renewed certificate is shown',
      async () => {
        const shown = await shownSerial(server.port)
        if (shown === before && serialOf(join(scene.etc, 'orders')) === before) daemons[0]?.child.kill('SIGHUP')
        return shown !== before && shown === serialOf(join(scene.etc, 'orders'))
      },
      state,
    )
    expect(await call('good')).toBe(greets)
  })
}
