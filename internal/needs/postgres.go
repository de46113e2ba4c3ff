package needs

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// howPostgres is the line that brings a Postgres that tests may use.
const howPostgres = "apt-get install -y postgresql   (or MONITOR_TEST_POSTGRES=postgres://user:password@host/postgres)"

// Postgres returns the DSN (postgres://…) of a fresh, empty database that is
// dropped when the test ends, whoever is still connected to it.
//
// The server is the one that MONITOR_TEST_POSTGRES names (a DSN whose user may
// create databases), else a private one that the first caller of the test
// process starts from the machine's own PostgreSQL programs on a free loopback
// port, in a folder under /tmp, with fsync off: it is for the behaviour of
// queries, not for what survives a power cut. It ends, and its folder with
// it, when the test process does, also after kill -9. May be called from
// parallel tests.
func Postgres(t testing.TB) string {
	t.Helper()
	admin := os.Getenv("MONITOR_TEST_POSTGRES")
	if admin == "" {
		var err error
		admin, err = cluster()
		if errors.Is(err, errNoPostgres) {
			Missing(t, "PostgreSQL", howPostgres)
		}
		if err != nil {
			t.Fatalf("cannot start a private PostgreSQL for this test: %v", err)
		}
	}
	name := "t_" + randomHex(8)
	if err := adminExec(admin, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("cannot create a database for this test: %v", err)
	}
	t.Cleanup(func() {
		if err := adminExec(admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("cannot drop the database of this test: %v", err)
		}
	})
	u, err := url.Parse(admin)
	if err != nil || u.Scheme == "" {
		t.Fatalf("MONITOR_TEST_POSTGRES must be a URL such as postgres://user:password@host:5432/postgres")
	}
	u.Path = "/" + name
	return u.String()
}

func adminExec(dsn, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, sql)
	return err
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the program instead
	return hex.EncodeToString(b)
}

var errNoPostgres = errors.New("no PostgreSQL programs on this machine")

// cluster starts the private server of this test process, once, and returns
// its administrator's DSN.
var cluster = sync.OnceValues(startCluster)

func startCluster() (string, error) {
	bin, err := postgresBin()
	if err != nil {
		return "", err
	}
	// Another process may take the free port between our look and the server's.
	for attempt := 1; ; attempt++ {
		// Not os.TempDir: the server runs as another user when we are root, who
		// must be able to walk there.
		dir, err := os.MkdirTemp("/tmp", "monitor-pg-")
		if err != nil {
			return "", err
		}
		dsn, err := startClusterIn(bin, dir)
		if err == nil {
			return dsn, nil
		}
		os.RemoveAll(dir)
		if attempt == 3 {
			return "", err
		}
	}
}

func startClusterIn(bin, dir string) (string, error) {
	who, err := serverOwner(dir)
	if err != nil {
		return "", err
	}
	password := randomHex(16)
	pwfile := filepath.Join(dir, "password")
	if err := os.WriteFile(pwfile, []byte(password), 0o644); err != nil { // read by another user, in a folder only that user can enter
		return "", err
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "monitor",
		"-A", "password", "--pwfile", pwfile, "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir = dir
	who(initdb)
	if out, err := initdb.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return startServer(bin, dir, password, who)
}

// supervise runs the server as its child until standard input ends, which the
// operating system brings about when the test process dies in whatever way.
const supervise = `
trap '' INT HUP
"$@" </dev/null & pid=$!
cat >/dev/null
kill -QUIT $pid 2>/dev/null
wait $pid
rm -rf "$MONITOR_PG_DIR"
`

func startServer(bin, dir, password string, who func(*exec.Cmd)) (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	logName := filepath.Join(dir, "log")
	log, err := os.Create(logName)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", "-c", supervise, "sh", filepath.Join(bin, "postgres"), "-D", filepath.Join(dir, "data"),
		"-p", fmt.Sprint(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+dir,
		"-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=300", "-c", "shared_buffers=64MB")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), "MONITOR_PG_DIR="+dir)
	who(cmd)
	alive, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	dsn := fmt.Sprintf("postgres://monitor:%s@127.0.0.1:%d/postgres?sslmode=disable", password, port)
	if err := awaitServer(dsn, logName); err != nil {
		alive.Close()
		cmd.Wait()
		return "", err
	}
	keepOpen(alive)
	return dsn, nil
}

// keepOpen holds the supervisor's standard input open for as long as this
// process lives; a collected pipe would be closed by its finaliser.
func keepOpen(c io.Closer) {
	go func() {
		defer c.Close()
		select {}
	}()
}

// awaitServer returns when the server answers, or with the end of its log when
// it ended or 60 s have passed.
func awaitServer(dsn, logName string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, dsn)
		if err == nil {
			return c.Close(ctx)
		}
		text, readErr := os.ReadFile(logName)
		if ctx.Err() != nil || readErr != nil || bytes.Contains(text, []byte("FATAL:  could not")) || bytes.Contains(text, []byte("database system is shut down")) {
			return fmt.Errorf("the server does not answer: %w; its log:\n%s", err, text)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// postgresBin finds the folder that holds initdb and postgres, the newest
// version first; Debian keeps them off PATH.
func postgresBin() (string, error) {
	if runtime.GOOS == "windows" {
		return "", errNoPostgres
	}
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
		found, _ := filepath.Glob(pattern) // the patterns are constant and well-formed
		sort.Slice(found, func(i, j int) bool {
			return len(found[i]) > len(found[j]) || len(found[i]) == len(found[j]) && found[i] > found[j]
		})
		dirs = append(dirs, found...)
	}
	if p, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, d := range dirs {
		if executable(filepath.Join(d, "initdb")) && executable(filepath.Join(d, "postgres")) {
			return d, nil
		}
	}
	return "", errNoPostgres
}

func executable(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.Mode().IsRegular() && !strings.HasSuffix(name, "/") && st.Mode().Perm()&0o111 != 0
}
