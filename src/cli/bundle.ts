// `agentca bundle show`: the roots that relying parties trust.
import { Command } from 'commander'
import type { IssuerAnswer } from '../schema/admin-answers.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { members, type View, writeRows } from './output.ts'

const rootView: View<IssuerAnswer> = {
  columns: members<IssuerAnswer>('name', 'state', 'daysLeft', 'notAfter', 'fingerprint', 'subject'),
  name: row => row.fingerprint,
  pem: row => row.certificate,
}

export const bundleCommand = (io: CommandIo): Command =>
  new Command('bundle').description('the trust bundle').addCommand(
    online(
      io,
      new Command('show').description('the roots, as PEM; -o table shows their fingerprints'),
      async ({ client, format }) => {
        const { items } = await client.call('issuersList')
        writeRows(
          io,
          format,
          items.filter(each => each.kind === 'root' && each.state !== 'retired'),
          rootView,
        )
      },
      ['pem', 'table', 'json', 'jsonl', 'name'],
    ),
  )
