// `agentca completion`: scripts for shells, made from the command tree itself, so that they cannot fall behind it.
import { Argument, Command, type Option } from 'commander'
import type { CommandIo } from './io.ts'

interface OptionFacts {
  readonly flags: readonly string[]
  readonly takesValue: boolean
  readonly choices: readonly string[]
  readonly description: string
}

interface Node {
  /** `agentca agent create` */
  readonly path: string
  readonly subcommands: readonly { readonly name: string; readonly description: string }[]
  readonly options: readonly OptionFacts[]
  /** Choices of the first argument. */
  readonly choices: readonly string[]
}

const optionFacts = (option: Option): OptionFacts => ({
  flags: [option.long, option.short].filter(flag => flag !== undefined),
  takesValue: option.required || option.optional,
  choices: option.argChoices ?? [],
  description: option.description,
})

/** The tree as a flat list, the root first. */
export const completionNodes = (command: Command, path: string = command.name()): readonly Node[] => [
  {
    path,
    subcommands: command.commands.map(child => ({ name: child.name(), description: child.description() })),
    options: command.createHelp().visibleOptions(command).map(optionFacts),
    choices: command.registeredArguments[0]?.argChoices ?? [],
  },
  ...command.commands.flatMap(child => completionNodes(child, `${path} ${child.name()}`)),
]

const wordsOf = (node: Node): readonly string[] => [
  ...node.subcommands.map(child => child.name),
  ...node.choices,
  ...node.options.flatMap(option => option.flags),
]

/** In single quotes of a POSIX shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

const bashScript = (nodes: readonly Node[]): string => {
  const paths = nodes.slice(1).map(node => quoted(node.path))
  const values = nodes.flatMap(node =>
    node.options
      .filter(option => option.takesValue)
      .flatMap(option =>
        option.flags.map(
          flag =>
            `    ${quoted(`${node.path}:${flag}`)}) COMPREPLY=($(compgen -W ${quoted(option.choices.join(' '))} -- "$cur")); return ;;`,
        ),
      ),
  )
  const words = nodes.map(
    node => `    ${quoted(node.path)}) COMPREPLY=($(compgen -W ${quoted(wordsOf(node).join(' '))} -- "$cur")) ;;`,
  )
  return `# bash completion for agentca: source <(agentca completion bash)
_agentca() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" path=agentca i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path \${COMP_WORDS[i]}" in
      ${paths.join('|')}) path="$path \${COMP_WORDS[i]}" ;;
    esac
  done
  case "$path:$prev" in
${values.join('\n')}
  esac
  case "$path" in
${words.join('\n')}
  esac
}
complete -o default -F _agentca agentca
`
}

const zshScript = (nodes: readonly Node[]): string =>
  `#compdef agentca
# zsh completion for agentca: source <(agentca completion zsh)
autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
${bashScript(nodes).split('\n').slice(1).join('\n')}`

const fishQuoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`

const fishScript = (nodes: readonly Node[]): string => {
  const lines = nodes.flatMap(node => {
    const at = `-n ${fishQuoted(`test (__agentca_path) = "${node.path}"`)}`
    return [
      ...node.subcommands.map(
        child => `complete -c agentca -f ${at} -a ${fishQuoted(child.name)} -d ${fishQuoted(child.description)}`,
      ),
      ...node.choices.map(choice => `complete -c agentca -f ${at} -a ${fishQuoted(choice)}`),
      ...node.options.map(option => {
        const flags = option.flags.map(flag => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`))
        const value = option.choices.length > 0 ? ` -x -a ${fishQuoted(option.choices.join(' '))}` : ' -r'
        return `complete -c agentca ${at} ${flags.join(' ')}${option.takesValue ? value : ''} -d ${fishQuoted(option.description)}`
      }),
    ]
  })
  const paths = nodes.slice(1).map(node => fishQuoted(node.path))
  return `# fish completion for agentca: agentca completion fish | source
function __agentca_path
  set -l path agentca
  set -l words (commandline -opc)
  for word in $words[2..-1]
    if contains -- "$path $word" ${paths.join(' ')}
      set path "$path $word"
    end
  end
  echo $path
end
${lines.join('\n')}
`
}

const powershellQuoted = (text: string): string => `'${text.replaceAll("'", "''")}'`

const powershellScript = (nodes: readonly Node[]): string => {
  const list = (items: readonly string[]): string => `@(${items.map(powershellQuoted).join(', ')})`
  const words = nodes.map(node => `    ${powershellQuoted(node.path)} = ${list(wordsOf(node))}`)
  const values = nodes.flatMap(node =>
    node.options
      .filter(option => option.choices.length > 0)
      .flatMap(option =>
        option.flags.map(flag => `    ${powershellQuoted(`${node.path}:${flag}`)} = ${list(option.choices)}`),
      ),
  )
  return `# PowerShell completion for agentca: agentca completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName agentca -ScriptBlock {
  param($wordToComplete, $commandAst, $cursorPosition)
  $words = @{
${words.join('\n')}
  }
  $values = @{
${values.join('\n')}
  }
  $path = 'agentca'
  $previous = ''
  foreach ($element in $commandAst.CommandElements | Select-Object -Skip 1) {
    if ($element.Extent.EndOffset -ge $cursorPosition) { break }
    $previous = $element.Extent.Text
    if ($words.ContainsKey("$path $previous")) { $path = "$path $previous" }
  }
  $candidates = if ($values.ContainsKey("\${path}:$previous")) { $values["\${path}:$previous"] } else { $words[$path] }
  $candidates | Where-Object { $_ -like "$wordToComplete*" } | ForEach-Object {
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }
}
`
}

const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript, powershell: powershellScript } as const
const shells = Object.keys(scripts) as (keyof typeof scripts)[]

/** @param program the whole tree */
export const completionCommand = (io: CommandIo, program: () => Promise<Command>): Command =>
  new Command('completion')
    .description('a completion script for your shell')
    .addArgument(new Argument('<shell>').choices(shells))
    .action(async (shell: keyof typeof scripts) => io.out(scripts[shell](completionNodes(await program()))))
