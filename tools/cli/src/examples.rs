//! What stands first in each command's help: lines that can be pasted.

pub(crate) const PUT: &str = "\
Examples:
  raftkv put hello raftkv            create a key; exit code 4 if it exists
  raftkv put photo @photo.jpg        the value is a file
  date | raftkv put now -            the value is standard input
  raftkv put hex:00ff b64:AP8=       any bytes";

pub(crate) const UPDATE: &str = "\
Examples:
  raftkv update hello again          create a key, or replace its value
  raftkv update conf @app.toml       the value is a file
  raftkv update -o json hello again  for scripts";

pub(crate) const GET: &str = "\
Examples:
  raftkv get hello                   show a value; exit code 3 if there is no such key
  raftkv get photo > photo.jpg       a pipe or a file gets exactly the bytes
  raftkv get -o json hello           with revision, create_revision and version";

pub(crate) const REMOVE: &str = "\
Examples:
  raftkv remove hello                exit code 3 if there is no such key";

pub(crate) const CAS: &str = "\
Examples:
  raftkv cas lock 0 me               take a lock that nobody has; exit code 4 if somebody has it
  raftkv cas conf 42 @app.toml       replace the value that was read at revision 42, and no other
  raftkv get -o json conf            shows the revision";

pub(crate) const INCREMENT: &str = "\
Examples:
  raftkv increment hits              add 1, and show the sum
  raftkv increment stock -5          exit code 4 if the value is no number, or the sum none of 64 bits";

pub(crate) const BATCH: &str = "\
Examples:
  raftkv batch orders.jsonl          all lines or none; an error names the line in the way
                                     exit code 3: no such key; 4: it exists, or a condition failed
  echo '{\"op\":\"increment\",\"key\":\"hits\",\"by\":2}' | raftkv batch
Lines (at most 128, together as long as one key and one value):
  {\"op\":\"put\",\"key\":\"a\",\"value\":\"1\"}             create; \"update\" creates or replaces
  {\"op\":\"remove\",\"key\":\"b\"}
  {\"op\":\"cas\",\"key\":\"c\",\"revision\":42,\"value\":\"2\"}
  {\"op\":\"increment\",\"key\":\"d\",\"by\":-1}";

pub(crate) const OUTCOME: &str = "\
Examples:
  raftkv outcome 40/7                what became of it: executed (with its result), never, or not known any more
                                     exit code 0 if it was executed, 5 if it never was and never will be, 6 if unknown";

pub(crate) const EXPLAIN: &str = "\
Examples:
  raftkv explain put hello raftkv    each stage in microseconds, each node's queue and sync, who closed the quorum
  raftkv explain get hello           where a read waits
  raftkv explain update -o json hello again";

pub(crate) const SCAN: &str = "\
Examples:
  raftkv scan                        all keys with their values
  raftkv scan users/                 those that begin with users/
  raftkv scan --from b --to d        from b on, before d
  raftkv scan users/ --count         how many
  raftkv scan --keys-only --limit 9";

pub(crate) const IMPORT: &str = "\
Examples:
  raftkv import keys.jsonl           lines like {\"key\":\"a\",\"value\":\"1\"}; replaces existing keys
  raftkv import --create keys.jsonl  leaves existing keys alone, and exits with 4 if there were any
  raftkv export | raftkv --endpoints 127.0.0.1:7600 import -";

pub(crate) const EXPORT: &str = "\
Examples:
  raftkv export > keys.jsonl         all keys as of one moment
  raftkv export users/               those that begin with users/
  raftkv --endpoints 127.0.0.1:7410 export --local     what this node has, leader or not";

pub(crate) const STATUS: &str = "\
Examples:
  raftkv status                      what is wrong, if anything, and one line per node
  raftkv status --watch              again every second; --watch=250ms, --watch=1m
  raftkv status -o json              with counters
  raftkv --endpoints 127.0.0.1:7600 status";

pub(crate) const LOG: &str = "\
Examples:
  raftkv log level                         what each node logs
  raftkv log level debug                   all nodes, all of it
  raftkv log level raft=debug --node 1     one room of one node
  raftkv log level --reset                 back to what `log` says
Changes last until the node restarts, or reads another `log` on SIGHUP.";

pub(crate) const DEV: &str = "\
Examples:
  raftkv dev                         three nodes; Ctrl-C stops them, their data stays
  raftkv dev start                   the same in the background; returns when a leader serves
  raftkv dev kill 0                  kill -9 of a node; `raftkv dev restart 0` starts it again
  raftkv dev wipe                    stop all and remove the data
  raftkv dev start --nodes 5 --dir five --base-port 7600";

pub(crate) const COMPLETION: &str = "\
Examples:
  source <(raftkv completion bash)
  raftkv completion zsh > ~/.zfunc/_raftkv
  raftkv completion fish > ~/.config/fish/completions/raftkv.fish";
