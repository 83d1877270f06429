// The manifest of a backup: of which CA it is, up to where its ledger goes, and every file in it with its digest.
import * as z from 'zod'
import { faultsOf } from './document.ts'
import { SchemaError } from './errors.ts'

const decimal = z.string().regex(/^[0-9]{1,40}$/)
const digest = z.string().regex(/^[0-9a-f]{64}$/)

/** Relative, and nowhere above: what is unpacked stays where it is unpacked. A backslash would be another separator to tar. */
const fileName = z
  .string()
  .min(1)
  .max(2000)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  .regex(/^[^\u0000-\u001f\u007f-\u009f\\]+$/, 'expected no control character and no backslash')
  .refine(name => !name.split('/').some(part => ['', '.', '..'].includes(part)), 'expected a path below')

const file = z.strictObject({ name: fileName, size: z.int().min(0), sha256: digest })

const manifest = z.strictObject({
  format: z.literal('agentca-backup'),
  version: z.literal(1),
  createdAt: z.iso.datetime(),
  /** Of agentca. */
  agentca: z.string().max(100),
  caId: z.string().max(100),
  trustDomain: z.string().max(255),
  /** Of the ledger's tables. */
  schema: z.int().min(1),
  feed: z.strictObject({ epoch: z.string().max(64), n: z.int().min(0) }),
  audit: z.strictObject({ size: z.int().min(0), head: digest }),
  /** The last number given to a CRL, by issuer. */
  crlNumbers: z.record(z.string().max(100), decimal),
  /** Whether the token directory of the embedded HSM is in it, with its PIN. */
  keys: z.boolean(),
  files: z
    .array(file)
    .min(1)
    .max(100_000)
    .refine(files => new Set(files.map(({ name }) => name)).size === files.length, 'expected each name once'),
})

export type BackupFile = Readonly<z.infer<typeof file>>
export type BackupManifest = Readonly<z.infer<typeof manifest>>

/** @throws SchemaError */
export const parseBackupManifest = (text: string): BackupManifest => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new SchemaError('manifest', [{ path: '', problem: 'expected JSON' }])
  }
  const parsed = manifest.safeParse(value)
  if (!parsed.success) throw new SchemaError('manifest', faultsOf(parsed.error))
  return parsed.data
}
