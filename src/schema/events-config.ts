// The part of the configuration about events: which of them leave, in which shape, and to where.
import * as z from 'zod'

/** A list in YAML, or names with commas between them in the environment. */
const names = z.union([
  z.array(z.string().min(1).max(64)),
  z.string().transform(text =>
    text
      .split(',')
      .map(name => name.trim())
      .filter(name => name !== ''),
  ),
])

const httpsUrl = z
  .string()
  .refine(text => URL.canParse(text) && new URL(text).protocol === 'https:' && new URL(text).username === '', {
    error: 'expected an https URL',
  })

/** @param address the parser of HOST:PORT */
export const eventsSchema = <A extends z.ZodType>(address: A) =>
  z
    .strictObject({
      /** `ocsf`: Open Cybersecurity Schema Framework 1.1.0. */
      shape: z.enum(['agentca', 'ocsf']).default('agentca'),
      /** Kinds of leaves that go out; default: all but `except`. */
      only: names.optional(),
      /** Said before each signature; certificate_issued says what came of it. */
      except: names.default(['intent_recorded']),
      jsonl: z.strictObject({ file: z.string().min(1).optional() }).prefault({}),
      syslog: z
        .strictObject({
          address: address.optional(),
          caFile: z.string().min(1).optional(),
          serverName: z.string().min(1).optional(),
          credentialFile: z.string().min(1).optional(),
        })
        .superRefine(({ address: to, caFile }, context) => {
          if (to !== undefined && caFile === undefined)
            context.addIssue({
              code: 'custom',
              path: ['caFile'],
              message: 'expected the PEM file of the CAs that the syslog server is verified by',
            })
        })
        .prefault({}),
      webhook: z
        .strictObject({
          url: httpsUrl.optional(),
          /** 32 bytes or more, shared with the receiver. */
          secretFile: z.string().min(1).optional(),
          caFile: z.string().min(1).optional(),
        })
        .superRefine(({ url, secretFile }, context) => {
          if (url !== undefined && secretFile === undefined)
            context.addIssue({
              code: 'custom',
              path: ['secretFile'],
              message: 'expected the file of the secret that deliveries are signed with (openssl rand -hex 32)',
            })
        })
        .prefault({}),
    })
    .prefault({})
