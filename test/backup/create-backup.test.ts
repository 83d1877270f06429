// Every backup that is said to be made can be opened again, whatever the files of the home and the configuration are called.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateX25519Identity, identityToRecipient } from 'age-encryption'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { readArchive } from '../../src/backup/archive.ts'
import { type ConfigurationPart, createBackup } from '../../src/backup/create-backup.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { configurationParts } from '../../src/cli/backup-configuration.ts'
import { type HomePaths, homePaths } from '../../src/server/home.ts'
import { openSqliteLedger } from '../../src/store/sqlite/open.ts'

let scratch: string
let paths: HomePaths
let identity: string
const at = (...parts: readonly string[]): string => join(scratch, ...parts)
const parts = { clock: systemClock, log: silentLog }

beforeEach(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'agentca-create-backup-'))
  paths = homePaths(at('home'))
  for (const path of [paths.home, paths.issuers, paths.ceremonies, at('x'), at('y'), at('into')]) mkdirSync(path)
  await openSqliteLedger(paths.database, parts).close()
  identity = await generateX25519Identity()
})
afterEach(() => rmSync(scratch, { recursive: true, force: true }))

const made = async (configuration: readonly ConfigurationPart[] = []) =>
  createBackup({
    ...{ paths, ...parts, version: '1.0.0', to: at('b.age'), configuration, keys: false },
    lock: { recipients: [await identityToRecipient(identity)] },
  })
const opened = () => readArchive(at('b.age'), { identities: [identity] }, at('into'))

describe('a backup', () => {
  it.for(['root ceremony, 1.json', 'Zürich – 東京.json', `${'long'.repeat(60)}.json`])(
    'can be opened with a file called %s',
    async name => {
      writeFileSync(join(paths.ceremonies, name), 'transcript')
      await made()
      await opened()
      expect(readFileSync(at('into/home/ceremonies', name), 'utf8')).toBe('transcript')
    },
  )

  it('is not made with a file that no restore would write', async () => {
    writeFileSync(join(paths.ceremonies, 'two\nlines'), '')
    await expect(made()).rejects.toMatchObject({ code: 'backup_unreadable', hint: expect.stringMatching(/rename/) })
    expect(existsSync(at('b.age'))).toBe(false)
  })

  it('has the parts of the configuration by what they are for, the public files of attestors and no secret of theirs', async () => {
    mkdirSync(at('x/attestors'))
    writeFileSync(at('x/same'), 'config')
    writeFileSync(at('y/same'), 'monitor')
    writeFileSync(
      at('x/attestors/ci.yaml'),
      [
        'kind: jwt',
        'issuer: https://ci.example.org',
        'audience: agentca',
        'keys: { from: url, url: "https://ci.example.org/keys", caFile: ../../y/ca.pem, bearerFile: bearer }',
        'rules: [{ agent: a, require: { sub: a } }]',
      ].join('\n'),
    )
    writeFileSync(at('x/attestors/bearer'), 'secret')
    writeFileSync(at('y/ca.pem'), 'anchor')
    writeFileSync(at('x/attestors/half.yaml'), 'kind: [')
    await made(
      configurationParts({
        ...{ file: at('x/same'), monitor: at('y/same'), attestors: at('x/attestors') },
        ...{ profiles: at('none'), policies: at('none') },
      }),
    )
    const { files } = await opened()
    expect(
      files
        .map(({ name }) => name)
        .filter(name => name.startsWith('configuration/'))
        .sort(),
    ).toEqual([
      'configuration/agentca.yaml',
      'configuration/attestor-files/ci/ca.pem',
      'configuration/attestors/ci.yaml',
      'configuration/attestors/half.yaml',
      'configuration/monitor.yaml',
    ])
    expect(readFileSync(at('into/configuration/monitor.yaml'), 'utf8')).toBe('monitor')
  })
})
