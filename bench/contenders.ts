/** Encrypted filesystems that are compared, each on a fresh directory of its own. */
import { MountedContainer, run } from "../tests/mounted/mounted_container.ts";
import { Link, type LinkOptions, SshServer } from "./link.ts";

/** Who is compared. Mounted anew for each round; disposal takes away what is mounted. */
export interface Contender extends AsyncDisposable {
  readonly name: string;
  readonly mountpoint: string;
  mount(): Promise<void>;
  unmount(): Promise<void>;
}

/** How to make one. */
export interface Kind {
  /** What it needs, each as `COMMAND:PACKAGE` of Debian. */
  readonly needs: readonly string[];
  /** @param work an empty directory of its own @param link the link that lies between, where there is one */
  make(name: string, work: string, link: LinkOptions | undefined): Promise<Contender>;
}

const PASSPHRASE = "bench passphrase";

async function must(command: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await run(command);
  if (code !== 0) throw new Error(`${command[0]} ended with ${code}: ${stdout}${stderr}`);
}

/** CoverFS with a cipher suite; on a server of its own behind the link, where there is one. */
function coverfs(cipher: string): Kind {
  return {
    needs: [],
    async make(name, work, link) {
      let way: Link | undefined;
      const container = await MountedContainer.create(work, {
        cipher,
        remote: link !== undefined,
        by: async (port) => (way = await Link.open(port, link!)).port,
      });
      await container.unmount();
      return {
        name,
        mountpoint: container.mountpoint,
        mount: () => container.mount(),
        unmount: () => container.unmount(),
        async [Symbol.asyncDispose]() {
          await container[Symbol.asyncDispose]();
          await way?.[Symbol.asyncDispose]();
        },
      };
    },
  };
}

/** What a stacked filesystem is told: its folder of ciphertext, where to mount, and a file with the passphrase. */
interface Stacked {
  readonly needs: readonly string[];
  create(folder: string, passfile: string): readonly string[];
  mount(folder: string, mountpoint: string, passfile: string): readonly string[];
}

/** A filesystem that keeps ciphertext in a folder; by sshfs behind the link, where there is one. */
function stacked(how: Stacked): Kind {
  return {
    needs: how.needs,
    async make(name, work, link) {
      const [folder, mountpoint, passfile] = [`${work}/cipher`, `${work}/mnt`, `${work}/pass`];
      for (const made of [folder, mountpoint]) await Deno.mkdir(made);
      await Deno.writeTextFile(passfile, PASSPHRASE);
      await using made = new AsyncDisposableStack();
      let below = folder;
      if (link !== undefined) {
        const server = made.use(await SshServer.start(`${work}/ssh`));
        const way = made.use(await Link.open(server.port, link));
        await Deno.mkdir(below = `${work}/sshfs`);
        await must(server.sshfs(way.port, folder, below));
        made.defer(() => must(["umount", below]));
      }
      await must(how.create(below, passfile));
      const owned = made.move();
      let mounted = false;
      const unmount = async () => {
        if (mounted) await must(["umount", mountpoint]);
        mounted = false;
      };
      return {
        name,
        mountpoint,
        async mount() {
          await must(how.mount(below, mountpoint, passfile));
          mounted = true;
        },
        unmount,
        async [Symbol.asyncDispose]() {
          await unmount().catch(() => must(["umount", "--lazy", mountpoint]));
          await owned.disposeAsync();
        },
      };
    },
  };
}

/** All that can be compared. Key derivation is made cheap everywhere: it is no part of what is measured. */
export const CONTENDERS: Readonly<Record<string, Kind>> = {
  "coverfs-cbc": coverfs("aes-256-cbc-hmac-sha256"),
  "coverfs-gcm": coverfs("aes-256-gcm"),
  gocryptfs: stacked({
    needs: ["gocryptfs:gocryptfs"],
    create: (
      folder,
      passfile,
    ) => ["gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", passfile, folder],
    mount: (folder, mountpoint, passfile) => ["gocryptfs", "-q", "-passfile", passfile, folder, mountpoint],
  }),
  securefs: stacked({
    needs: ["securefs:securefs"],
    create: (
      folder,
    ) => [
      "securefs",
      "create",
      "--pbkdf",
      "pkcs5-pbkdf2-hmac-sha256",
      "-r",
      "1000",
      "--pass",
      PASSPHRASE,
      folder,
    ],
    mount: (
      folder,
      mountpoint,
    ) => ["securefs", "mount", "-b", "--log", "/dev/null", "--pass", PASSPHRASE, folder, mountpoint],
  }),
  cryfs: stacked({
    needs: ["cryfs:cryfs"],
    create: () => ["true"],
    mount: (folder, mountpoint, passfile) => [
      ...["sh", "-c", 'CRYFS_FRONTEND=noninteractive CRYFS_NO_UPDATE_CHECK=true cryfs "$1" "$2" <"$3"', "sh"],
      ...[folder, mountpoint, passfile],
    ],
  }),
};
