// Command peers measures River (github.com/riverqueue/river) as tests/bench measures LogLineOS,
// graphile-worker and pg-boss (node/measure.mjs): one process, one measure, one line of JSON. It is a module
// of its own, so that the product's has no part of it.
//
//	peers --database URL --measure latency   --n 200 --every-ms 10 --tenants 50
//	peers --database URL --measure sustained --seconds 5 --tenants 50
//	peers --database URL --measure drain     --n 100000 --seconds 60 --tenants 50
//
// The jobs do nothing. The settings are those with which River was quickest here: 2,000 workers, a cooldown
// of 2 ms; for latency 100 workers. A job carries its tenant as an argument: River knows none.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// The shape of the load: the same for every system (tests/bench/peers_test.go).
const (
	producers = 2
	batch     = 200
	lagMax    = 5000
)

// task is a job that does nothing.
type task struct {
	Number int    `json:"number"`
	Tenant string `json:"tenant"`
}

// Kind implements river.JobArgs.
func (task) Kind() string { return "noop" }

type worker struct {
	river.WorkerDefaults[task]
	run func(number int)
}

// Work implements river.Worker.
func (w *worker) Work(_ context.Context, job *river.Job[task]) error {
	w.run(job.Args.Number)
	return nil
}

type options struct {
	database, measure  string
	n, tenants         int
	seconds, everyMsec int
}

// result is the line that is printed.
type result struct {
	Ms       []float64 `json:"ms,omitempty"`
	Jobs     int64     `json:"jobs,omitempty"`
	Seconds  float64   `json:"seconds,omitempty"`
	Settings string    `json:"settings"`
}

func main() {
	var o options
	flag.StringVar(&o.database, "database", "", "an empty database")
	flag.StringVar(&o.measure, "measure", "", "latency, sustained or drain")
	flag.IntVar(&o.n, "n", 100, "jobs")
	flag.IntVar(&o.tenants, "tenants", 1, "tenants among whom they are shared out")
	flag.IntVar(&o.seconds, "seconds", 5, "how long")
	flag.IntVar(&o.everyMsec, "every-ms", 10, "between two jobs of latency")
	flag.Parse()
	found, err := measure(context.Background(), o)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, o options) (*result, error) {
	config, err := pgxpool.ParseConfig(o.database)
	if err != nil {
		return nil, fmt.Errorf("parse --database: %w", err)
	}
	config.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return nil, fmt.Errorf("make River's migrator: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("migrate River: %w", err)
	}
	m := &measurement{options: o, pool: pool}
	switch o.measure {
	case "latency":
		return m.latency(ctx)
	case "sustained":
		return m.sustained(ctx)
	case "drain":
		return m.drain(ctx)
	}
	return nil, fmt.Errorf("there is no measure %q", o.measure)
}

type measurement struct {
	options
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	number atomic.Int64 // of the last job
	done   atomic.Int64
	seen   func(number int)
}

// prepare makes the client with so many workers; it works once it is started.
func (m *measurement) prepare(workers int) (err error) {
	all := river.NewWorkers()
	river.AddWorker(all, &worker{run: func(number int) {
		if m.seen != nil {
			m.seen(number)
		}
		m.done.Add(1)
	}})
	m.client, err = river.NewClient(riverpgxv5.New(m.pool), &river.Config{
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 50 * time.Millisecond, Workers: all,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	return err
}

func (m *measurement) enqueue(ctx context.Context, n int) error {
	jobs := make([]river.InsertManyParams, n)
	for i := range jobs {
		number := int(m.number.Add(1))
		jobs[i].Args = task{number, fmt.Sprintf("tenant%d", number%m.tenants)}
	}
	_, err := m.client.InsertManyFast(ctx, jobs)
	return err
}

// latency is from the return of the insert's commit to the start of the job: pick-up. Jobs come at a steady
// pace, whether the last one has started or not.
func (m *measurement) latency(ctx context.Context) (*result, error) {
	const warmup = 20
	committed, started := make([]time.Time, m.n+warmup+1), make([]time.Time, m.n+warmup+1)
	all := make(chan struct{}, m.n+warmup)
	m.seen = func(number int) {
		started[number] = time.Now()
		all <- struct{}{}
	}
	if err := m.prepare(100); err != nil {
		return nil, err
	}
	if err := m.client.Start(ctx); err != nil {
		return nil, err
	}
	ticker := time.NewTicker(time.Duration(m.everyMsec) * time.Millisecond)
	defer ticker.Stop()
	for number := 1; number <= m.n+warmup; number++ {
		<-ticker.C
		if err := m.insertOne(ctx); err != nil {
			return nil, err
		}
		committed[number] = time.Now()
	}
	for range m.n + warmup {
		<-all
	}
	found := &result{Settings: "100 workers, cooldown 2 ms; to the start of the job"}
	for number := warmup + 1; number <= m.n+warmup; number++ {
		took := started[number].Sub(committed[number])
		found.Ms = append(found.Ms, max(float64(took.Microseconds())/1000, 0))
	}
	return found, m.client.Stop(ctx)
}

// insertOne uses Insert, which wakes the worker with a notification.
func (m *measurement) insertOne(ctx context.Context) error {
	number := int(m.number.Add(1))
	_, err := m.client.Insert(ctx, task{number, fmt.Sprintf("tenant%d", number%m.tenants)}, nil)
	return err
}

// sustained inserts while the jobs run, with at most lagMax of them waiting.
func (m *measurement) sustained(ctx context.Context) (*result, error) {
	if err := m.prepare(2000); err != nil {
		return nil, err
	}
	if err := m.client.Start(ctx); err != nil {
		return nil, err
	}
	var isOver atomic.Bool
	var work sync.WaitGroup
	fault := make(chan error, producers)
	for range producers {
		work.Go(func() { fault <- m.produce(ctx, isOver.Load) })
	}
	warm, end := time.NewTimer(time.Second), time.NewTimer(time.Duration(m.seconds+1)*time.Second)
	<-warm.C
	began, before := time.Now(), m.done.Load()
	<-end.C
	found := &result{Jobs: m.done.Load() - before, Seconds: time.Since(began).Seconds(),
		Settings: "2,000 workers, cooldown 2 ms, InsertManyFast"}
	isOver.Store(true)
	work.Wait()
	for range producers {
		if err := <-fault; err != nil {
			return nil, err
		}
	}
	return found, m.client.StopAndCancel(ctx)
}

func (m *measurement) produce(ctx context.Context, isOver func() bool) error {
	room := time.NewTicker(time.Millisecond)
	defer room.Stop()
	for !isOver() {
		if m.number.Load()-m.done.Load() >= lagMax {
			<-room.C
			continue
		}
		if err := m.enqueue(ctx, batch); err != nil {
			return fmt.Errorf("insert jobs: %w", err)
		}
	}
	return nil
}

// drain works off what was inserted before; it ends when the last job is completed, or the time is over.
func (m *measurement) drain(ctx context.Context) (*result, error) {
	if err := m.prepare(2000); err != nil {
		return nil, err
	}
	for left := m.n; left > 0; left -= 5000 {
		if err := m.enqueue(ctx, min(left, 5000)); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := m.client.Start(ctx); err != nil {
		return nil, err
	}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	found := &result{Settings: "2,000 workers, cooldown 2 ms"}
	for range look.C {
		found.Seconds = time.Since(began).Seconds()
		if isLate := found.Seconds > float64(m.seconds); m.done.Load() < int64(m.n) && !isLate {
			continue
		} else if isLate {
			break
		}
		var left bool
		if err := m.pool.QueryRow(ctx, `select exists (select from river_job
			where state in ('available', 'running', 'retryable'))`).Scan(&left); err != nil {
			return nil, err
		}
		if !left {
			break
		}
	}
	found.Jobs = m.done.Load()
	return found, m.client.StopAndCancel(ctx)
}
