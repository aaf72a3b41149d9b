import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** A whole stack of this project, started by its own launcher, for one file of tests. */
export class RunningStack {
  readonly url: string;
  readonly #process: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(process: ChildProcess, answers: AsyncIterator<string>, url: string) {
    this.#process = process;
    this.#answers = answers;
    this.url = url;
  }

  static async start(): Promise<RunningStack> {
    const script = "clients/typescript/tests/running_stack.py";
    const child = spawn(`${ROOT}.venv/bin/python`, [script], {
      cwd: ROOT,
      stdio: ["pipe", "pipe", "inherit"],
    });
    const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    return new RunningStack(child, answers, await answered(answers));
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#process.once("exit", () => resolve());
      this.#process.stdin?.end();
    });
  }

  token(person: string, lifetime = 3600): Promise<string> {
    return this.#ask("token", { person, lifetime });
  }

  /** Stops a process as its operator would, and starts it again. */
  async restart(name: string): Promise<void> {
    await this.#ask("restart", { name });
  }

  /** Ends a process as a crash would. */
  async kill(name: string): Promise<void> {
    await this.#ask("kill", { name });
  }

  async start(name: string): Promise<void> {
    await this.#ask("start", { name });
  }

  /** Begins a reply in a person's session; gives its id. */
  reply(person: string, session: string, text: string): Promise<string> {
    return this.#ask("reply", { person, session, text });
  }

  async more(message: string, text: string): Promise<void> {
    await this.#ask("more", { message, text });
  }

  async finish(message: string): Promise<void> {
    await this.#ask("finish", { message });
  }

  async vanish(message: string): Promise<void> {
    await this.#ask("vanish", { message });
  }

  #ask(what: string, named: Record<string, string | number>): Promise<string> {
    this.#process.stdin?.write(`${JSON.stringify([what, named])}\n`);
    return answered(this.#answers);
  }
}

async function answered(answers: AsyncIterator<string>): Promise<string> {
  const { value, done } = await answers.next();
  if (done) {
    throw new Error("the stack ended; its output is above");
  }
  return JSON.parse(value);
}
