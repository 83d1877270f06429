// A reload that fails leaves the attestors of before, and nothing of those that it would have brought.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { root as checkout } from '../../scripts/bootstrap.mjs'
import { startProvider } from '../enrol/provider.ts'
import { createStoryHome } from './ca-process.ts'
import { serveHere } from './served-here.ts'
import { until } from './until.ts'

it('a reload that profiles make fail asks no new identity provider for keys', async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'agentca-reload-'))
  const [profiles, attestors] = [join(scratch, 'profiles'), join(scratch, 'attestors')]
  cpSync(join(checkout, 'ca-config/profiles'), profiles, { recursive: true })
  mkdirSync(attestors)
  const home = await createStoryHome({ AGENTCA_PROFILES: profiles })
  try {
    await using provider = await startProvider()
    await using server = await serveHere(home, { aheadMs: 0 }, attestors)
    writeFileSync(
      join(attestors, 'new.yaml'),
      `kind: jwt\nissuer: ${provider.issuer}\naudience: https://ca.test\nkeys: {from: discovery, caFile: ${provider.caFile}}\nrules: [{agent: job, require: {branch: main}}]\n`,
    )
    const broken = join(profiles, 'broken.yaml')
    writeFileSync(broken, 'kind: nothing\n')
    await expect(server.reload()).rejects.toMatchObject({ code: 'configuration_invalid' })
    rmSync(broken)
    await server.reload()
    await until('the keys of the new provider are asked for', () => provider.asked.includes('/keys'))
    expect(provider.asked).toEqual(['/.well-known/openid-configuration', '/keys'])
  } finally {
    home.remove()
    rmSync(scratch, { recursive: true, force: true })
  }
}, 120_000)
