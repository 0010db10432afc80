package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// cluster is PostgreSQL as a program on one data folder.
type cluster struct {
	programs postgresPrograms
	account  *account
	folder   string // belongs to the account
	data     string // inside folder, made by initdb
	password string
	noFsync  bool
}

func newCluster(h *home, o PostgresOptions, password string) (*cluster, error) {
	folder, err := h.folder("postgres")
	if err != nil {
		return nil, err
	}
	c := &cluster{folder: folder, data: filepath.Join(folder, "data"), password: password, noFsync: o.NoFsync}
	made, err := madeBy(c.data)
	if err != nil {
		return nil, err
	}
	if c.programs, err = findPostgres(o.Path, made); err != nil {
		return nil, err
	}
	if c.account, err = serverAccount(folder); err != nil {
		return nil, err
	}
	return c, nil
}

// prepare makes the data on first use, and clears what a crash left.
func (c *cluster) prepare(ctx context.Context) error {
	if _, err := os.Stat(c.data); errors.Is(err, fs.ErrNotExist) {
		return c.initdb(ctx)
	}
	// We hold the folder's lock: whoever still runs here has lost its owner.
	if err := c.destroy(0); err != nil {
		return err
	}
	// The process id in it may be somebody else's by now, and PostgreSQL would
	// not start beside what it takes for itself.
	if err := os.Remove(filepath.Join(c.data, "postmaster.pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *cluster) command(port int) *exec.Cmd {
	settings := []string{
		"listen_addresses=127.0.0.1",
		"port=" + strconv.Itoa(port),
		"unix_socket_directories=", // none: their paths have a length limit
		"max_connections=200",
		"shared_buffers=128MB",
		// In the data folder, not in /dev/shm: containers have little of that,
		// and a crash would leave it there.
		"dynamic_shared_memory_type=mmap",
		"timezone=UTC",
		"log_timezone=UTC",
		"log_line_prefix=%m [%p] %u@%d ",
	}
	if c.noFsync {
		settings = append(settings, "fsync=off", "synchronous_commit=off", "full_page_writes=off")
	}
	args := []string{"-D", c.data}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return c.account.command(filepath.Join(c.programs.bin, "postgres"), args...)
}

// ready makes sure that the server that answers is ours: one that trusts
// everybody would let us in as well.
func (c *cluster) ready(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL(port, c.password))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var data string
	if err := conn.QueryRow(ctx, "show data_directory").Scan(&data); err != nil {
		return err
	}
	if data != c.data {
		return fmt.Errorf("port %d is served by another cluster: %w", port, errPortTaken)
	}
	return nil
}

// halt is a fast shutdown; if that hangs an immediate one, then the kernel's.
func (c *cluster) halt(p *process) error {
	if p.stop(syscall.SIGINT, 20*time.Second) || p.stop(syscall.SIGQUIT, 6*time.Second) {
		return c.destroy(0) // nothing is left, unless p had crashed
	}
	return c.kill(p)
}

func (c *cluster) kill(p *process) error {
	if p.running() {
		return errors.Join(c.destroy(p.pid), reaped(p))
	}
	return c.destroy(0)
}

// madeBy returns the major version that made the data folder; 0 if there is none.
func madeBy(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read version of data folder: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
