package needs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func query(t *testing.T, dsn, sql string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	var s string
	err = c.QueryRow(ctx, sql).Scan(&s)
	return s, err
}

func TestPostgresGivesEachTestItsOwnEmptyDatabase(t *testing.T) {
	const tables = "select count(*)::text from pg_tables where schemaname = 'public'"
	var first string
	t.Run("one", func(t *testing.T) {
		first = Postgres(t)
		if _, err := query(t, first, "with x as (select 1) select 'ok' from x"); err != nil {
			t.Fatal(err)
		}
		c, err := pgx.Connect(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		// Left connected: a test that forgets to close must not make its clean-up fail.
		if _, err := c.Exec(t.Context(), "create table left_over (a int)"); err != nil {
			t.Fatal(err)
		}
		if n, err := query(t, first, tables); err != nil || n != "1" {
			t.Fatalf("the table is not where it was made: %s tables, %v", n, err)
		}
	})
	second := Postgres(t)
	if second == first {
		t.Fatal("two tests share a database")
	}
	if n, err := query(t, second, tables); err != nil || n != "0" {
		t.Fatalf("a fresh database has %s tables (%v)", n, err)
	}
	if _, err := query(t, first, "select 'there'"); err == nil {
		t.Fatal("the first test's database outlived it")
	}
}

// The server of a test process that is killed must not outlive it.
func TestPostgresEndsWithItsTestProcess(t *testing.T) {
	if os.Getenv("MONITOR_NEEDS_CHILD") == "1" {
		fmt.Println("DSN " + Postgres(t))
		select {} // until killed
	}
	if os.Getenv("MONITOR_TEST_POSTGRES") != "" {
		Missing(t, "a private PostgreSQL server", "unset MONITOR_TEST_POSTGRES")
	}
	if _, err := postgresBin(); err != nil {
		Missing(t, "PostgreSQL", howPostgres)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPostgresEndsWithItsTestProcess$")
	cmd.Env = append(os.Environ(), "MONITOR_NEEDS_CHILD=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dsn string
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if d, ok := strings.CutPrefix(sc.Text(), "DSN "); ok {
			dsn = d
			break
		}
	}
	folder, err := query(t, dsn, "show unix_socket_directories")
	if err != nil {
		cmd.Process.Kill()
		t.Fatalf("the child's server does not answer while the child lives: %v", err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, errServer := query(t, dsn, "select 'there'")
		_, errFolder := os.Stat(folder)
		if errServer != nil && os.IsNotExist(errFolder) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("20 s after its process was killed, the server answers: %t; its folder: %v", errServer == nil, errFolder)
		}
		<-tick.C
	}
}
