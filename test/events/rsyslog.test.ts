// What another implementation makes of our syslog messages: rsyslog with gnutls, where the distribution has it installed.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { freePort } from '../setup/free-port.ts'
import { until } from '../story/until.ts'
import { eventWorld, scratch } from './receivers.ts'

test.skipIf(!existsSync('/usr/sbin/rsyslogd'))('is understood by rsyslog over gnutls', async () => {
  using place = scratch()
  const port = await freePort()
  const out = place.path('out.log')
  const configuration = place.file(
    'rsyslog.conf',
    `global(workDirectory="${place.directory}" defaultNetstreamDriver="gtls" defaultNetstreamDriverCAFile="${place.caFile}"
  defaultNetstreamDriverCertFile="${place.caFile}" defaultNetstreamDriverKeyFile="${place.keyFile}")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" port="${port}" address="127.0.0.1")
template(name="told" type="string" string="%app-name%|%msgid%|%pri%|%structured-data%|%msg%\\n")
action(type="omfile" file="${out}" template="told")
`,
  )
  const daemon = spawn('/usr/sbin/rsyslogd', ['-n', '-f', configuration, '-i', place.path('pid')], {
    stdio: 'ignore',
  })
  try {
    const world = eventWorld()
    const events = world.start({ syslog: { host: '127.0.0.1', port, caFile: place.caFile } })
    await world.append('a', 'b')
    const read = () => (existsSync(out) ? readFileSync(out, 'utf8').trim().split('\n') : [])
    await until('events arrive', () => read().length === 2)
    await events.close()
    const [app, messageId, priority, data, text] = read()[1]!.split('|')
    expect([app, messageId, priority, data]).toEqual(['agentca', 'revoked', '108', '[meta sequenceId="2"]'])
    expect(JSON.parse(text!)).toMatchObject({ subject: 'agent:b', facts: { why: 'größe b 🎈' } })
  } finally {
    daemon.kill('SIGTERM')
    await once(daemon, 'exit')
  }
})
