// The secret that an identity provider signs its webhooks with: from its file at the start, and again when the server is told to reload.
import { readFileSync } from 'node:fs'
import { messageOf } from '../base/errors.ts'
import { minSecretBytes, parseSecret } from '../events/webhook-signature.ts'
import { SchemaError } from '../schema/errors.ts'

export interface WebhookSecret {
  /** null: none is configured. */
  current(): string | null
  /** @throws SchemaError: the old one stays in force */
  reload(): void
}

const readSecret = (file: string): string => {
  const fault = (problem: string) => new SchemaError('configuration', [{ path: 'webhooks.in.secretFile', problem }])
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw fault(messageOf(error))
  }
  const secret = parseSecret(text)
  if (secret === null)
    throw fault(`${file}: expected a secret of ${minSecretBytes} bytes or more (openssl rand -hex 32)`)
  return secret
}

/** @throws SchemaError */
export const openWebhookSecret = (file: string | undefined): WebhookSecret => {
  let secret = file === undefined ? null : readSecret(file)
  return {
    current: () => secret,
    reload: () => {
      if (file !== undefined) secret = readSecret(file)
    },
  }
}
