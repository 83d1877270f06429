// `agentca revoke`: by any selector of the contract.
import { Command, Option } from 'commander'
import { parseSerialHex } from '../pki/serial.ts'
import { revocationSelectors } from '../schema/admin-api.ts'
import { keyHashOfFile } from './certificate-files.ts'
import { CliError } from './errors.ts'
import type { CommandIo } from './io.ts'
import { online } from './online.ts'
import { performRevocation, type RevocationOptions, type Selector, withRevocation } from './revocation.ts'

type SelectorName = Selector['by']

const descriptions: Readonly<Record<SelectorName, readonly [value: string, text: string]>> = {
  serial: ['serial', 'one certificate'],
  instance: ['id', 'one instance of an agent: all it has, and what it would get'],
  agent: ['name', 'all instances of an agent'],
  service: ['name', 'all instances of a service'],
  operator: ['name', 'all credentials of an operator'],
  owner: ['who', 'everything an owner answers for'],
  token: ['id', 'everything that came by a join token, and the token'],
  key: ['hash|file', 'a public key, for ever: SHA-256 of its SubjectPublicKeyInfo, or a file that holds it'],
  issuer: ['name', 'everything an issuing CA has issued'],
}

const selectorOf = (
  io: CommandIo,
  options: Readonly<Partial<Record<SelectorName, string>>>,
): { readonly selector: Selector; readonly given: string } => {
  const given = revocationSelectors.filter(name => options[name] !== undefined)
  const [by] = given
  if (by === undefined || given.length > 1)
    throw new CliError('usage', `expected one of ${revocationSelectors.map(name => `--${name}`).join(', ')}`, {
      hint: 'agentca revoke --help',
    })
  const text = options[by] as string
  const value =
    by === 'serial'
      ? parseSerialHex(text)
      : by === 'key' && !/^[0-9a-f]{64}$/.test(text)
        ? keyHashOfFile(io, text)
        : text
  return { selector: { by, value }, given: `--${by} ${value}` }
}

export const revokeCommand = (io: CommandIo): Command => {
  const command = new Command('revoke').description('revoke certificates for good; shows first what is hit')
  for (const name of revocationSelectors) {
    const [value, text] = descriptions[name]
    command.addOption(new Option(`--${name} <${value}>`, text).helpGroup('What to revoke (one of):'))
  }
  return online<RevocationOptions & Partial<Record<SelectorName, string>>>(
    io,
    withRevocation(command),
    async session => {
      const { selector, given } = selectorOf(io, session.options)
      await performRevocation(session, selector, `agentca revoke ${given}`)
    },
  )
}
