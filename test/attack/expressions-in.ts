// The regular expressions of a source text, found by reading it as the language is read: comments, strings and templates are passed
// over, and a slash begins an expression where an operand may stand. No parser: what it takes for one must compile as one.

export interface Expression {
  readonly line: number
  readonly source: string
  readonly flags: string
}

/** Behind these a slash divides nothing. */
const beforeOperand =
  /(?:^|[([{,;:=!&|?+\-*%~^<>])$|(?:^|[^\w$.])(?:return|typeof|case|in|of|do|else|void|delete|throw|new|await|yield)$/

/** @returns the position behind what begins at `from` and ends with an unescaped `end` */
const behind = (text: string, from: number, end: string): number => {
  for (let at = from + 1; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === end) return at + 1
  }
  return text.length
}

const behindExpression = (text: string, from: number): number => {
  let inClass = false
  for (let at = from + 1; at < text.length && text[at] !== '\n'; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '[') inClass = true
    else if (text[at] === ']') inClass = false
    else if (text[at] === '/' && !inClass) return at + 1
  }
  throw new Error(`an expression without an end: ${text.slice(from, from + 80)}`)
}

export const expressionsIn = (text: string): readonly Expression[] => {
  const found: Expression[] = []
  /** Code so far, without what was passed over: what the last operand or operator was. */
  let code = ''
  /** Depth of braces at which each template that is being read goes on. */
  const templates: number[] = []
  let depth = 0
  let at = 0
  const readTemplate = (): void => {
    for (; at < text.length; at++) {
      if (text[at] === '\\') at++
      else if (text[at] === '`') {
        at++
        code += 'x'
        return
      } else if (text.startsWith('${', at)) {
        at += 2
        templates.push(depth)
        depth++
        code += '('
        return
      }
    }
  }
  while (at < text.length) {
    const character = text[at] as string
    if (text.startsWith('//', at)) at = behind(text, at, '\n')
    else if (text.startsWith('/*', at)) at = text.indexOf('*/', at) + 2
    else if (character === "'" || character === '"') {
      at = behind(text, at, character)
      code += 'x'
    } else if (character === '`') {
      at++
      readTemplate()
    } else if (character === '/' && beforeOperand.test(code.trimEnd())) {
      const end = behindExpression(text, at)
      const flags = /^[a-z]*/.exec(text.slice(end))![0]
      found.push({ line: text.slice(0, at).split('\n').length, source: text.slice(at + 1, end - 1), flags })
      at = end + flags.length
      code += 'x'
    } else {
      if (character === '{') depth++
      if (character === '}') {
        depth--
        if (templates.at(-1) === depth) {
          templates.pop()
          at++
          readTemplate()
          continue
        }
      }
      code = (code + character).slice(-64)
      at++
    }
  }
  return found
}
