// Puts the traffic of etcd's robustness tests on a cluster that runs already, and has what its clients
// were told judged by etcd's model: linearizable, watches as promised, old revisions as they were.
//
// judge.ts starts it and talks with it in lines. What it says, and what it is told:
//
//	running            clients and watchers are at work
//	         stop      they have worked long enough
//	stopped {...}      the last write was taken and all watchers have seen it; figures
//	         FILE      requests of the log in their order, each a line of JSON; the members are gone
//	judged {...}       the verdict; the program ends
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
)

var traffics = map[string]traffic.Traffic{
	"etcd":              traffic.EtcdPutDeleteLease,
	"puts":              traffic.EtcdPut,
	"deletions":         traffic.EtcdDelete,
	"kubernetes":        traffic.Kubernetes,
	"kubernetes-churns": traffic.KubernetesCreateDelete,
}

const (
	callsPerSecond = 1000
	lastWriteTries = 30
	searchTime     = 3 * time.Minute
)

func main() {
	endpoints := flag.String("endpoints", "", "client URLs of the members, with commas between them")
	kind := flag.String("traffic", "etcd", "which clients")
	keep := flag.String("keep", "", "folder for the history of a run that is judged wrong")
	flag.Parse()
	clients, known := traffics[*kind]
	if !known {
		fail(fmt.Errorf("there is no traffic %q", *kind))
	}
	told := bufio.NewScanner(os.Stdin)

	reports, err := run(context.Background(), strings.Split(*endpoints, ","), clients, func() {
		say("running", nil)
		told.Scan()
	})
	if err != nil {
		fail(err)
	}
	say("stopped", figuresOf(reports))

	if !told.Scan() {
		fail(fmt.Errorf("nobody says where the requests of the log are"))
	}
	requests, err := readRequests(told.Text())
	if err != nil {
		fail(err)
	}
	config := validate.Config{ExpectRevisionUnique: clients.ExpectUniqueRevision()}
	result := validate.ValidateAndReturnVisualize(zap.NewNop(), config, reports, requests, searchTime)
	if result.Error() != nil && *keep != "" {
		if err := keepHistory(*keep, reports, &result); err != nil {
			fail(err)
		}
	}
	say("judged", map[string]any{
		"requests":      len(requests),
		"assumptions":   result.Assumptions,
		"linearization": result.Linearization.Result,
		"watches":       result.Watch,
		"oldRevisions":  result.Serializable,
	})
}

// run has clients at work until `enough` returns, and a watcher of everything at each member.
func run(ctx context.Context, endpoints []string, clients traffic.Traffic, enough func()) ([]report.ClientReport, error) {
	began := time.Now()
	ids := identity.NewIDProvider()
	callers := client.NewSet(ids, began)
	defer callers.Close()
	watchers := client.NewSet(ids, began)
	defer watchers.Close()
	if err := traffic.CheckEmptyDatabaseAtStart(ctx, zap.NewNop(), endpoints, callers); err != nil {
		return nil, err
	}
	last := make(chan int64, 1)
	watched := make(chan error, 1)
	go func() {
		watched <- client.CollectClusterWatchEvents(ctx, client.CollectClusterWatchEventsParam{
			Lg: zap.NewNop(), Endpoints: endpoints, MaxRevisionChan: last, ClientSet: watchers,
		})
	}()
	if err := work(ctx, endpoints, clients, callers, enough); err != nil {
		return nil, err
	}
	last <- report.OperationsMaxRevision(callers.Reports())
	close(last)
	if err := <-watched; err != nil {
		return nil, err
	}
	return slices.Concat(callers.Reports(), watchers.Reports()), nil
}

// work ends with a write that was taken: without one nobody knows what became of the last unanswered ones.
func work(ctx context.Context, endpoints []string, clients traffic.Traffic, callers *client.ClientSet, enough func()) error {
	var busy sync.WaitGroup
	finish := make(chan struct{})
	pace := rate.NewLimiter(callsPerSecond, callsPerSecond)
	keys := traffic.NewKeyStore(10, "key")
	objects := traffic.NewKubernetesStorage()
	mix := traffic.KeyValueHigh
	err := traffic.SimulateKeyValueTraffic(ctx, &busy, &mix, endpoints, callers, clients, traffic.RunTrafficLoopParam{
		QPSLimiter:                         pace,
		IDs:                                callers.IdentityProvider(),
		LeaseIDStorage:                     identity.NewLeaseIDStorage(),
		NonUniqueRequestConcurrencyLimiter: traffic.NewConcurrencyLimiter(mix.MaxNonUniqueRequestConcurrency),
		KeyStore:                           keys,
		Storage:                            objects,
		Finish:                             finish,
	})
	if err != nil {
		return err
	}
	watches := traffic.WatchDefault
	err = traffic.SimulateWatchTraffic(ctx, &busy, &watches, endpoints, callers, clients, traffic.RunWatchLoopParam{
		Config: watches, QPSLimiter: pace, KeyStore: keys, Storage: objects, Finish: finish, Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	compactions := traffic.CompactionDefault
	err = traffic.SimulateCompactionTraffic(ctx, &busy, &compactions, endpoints, callers, clients, traffic.RunCompactLoopParam{
		Period: compactions.Period, Finish: finish,
	})
	if err != nil {
		return err
	}
	enough()
	close(finish)
	busy.Wait()
	writer, err := callers.NewClient(endpoints)
	if err != nil {
		return err
	}
	defer writer.Close()
	for range lastWriteTries {
		limited, cancel := context.WithTimeout(ctx, time.Second)
		_, err = writer.Put(limited, "tombstone", "true")
		cancel()
		if err == nil {
			return nil
		}
	}
	return fmt.Errorf("the last write was not taken: %w", err)
}

func figuresOf(reports []report.ClientReport) map[string]any {
	taken, failed, events := 0, 0, 0
	errors := map[string]int{}
	for _, client := range reports {
		for _, call := range client.KeyValue {
			response := call.Output.(model.MaybeEtcdResponse)
			if response.Error == "" {
				taken++
			} else {
				failed++
				errors[response.Error]++
			}
		}
		for _, watch := range client.Watch {
			for _, response := range watch.Responses {
				events += len(response.Events)
			}
		}
	}
	return map[string]any{"taken": taken, "failed": failed, "events": events, "errors": errors}
}

// readRequests: judge.ts writes values as they are, but the model knows long ones by their hash alone.
func readRequests(path string) ([]model.EtcdRequest, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var requests []model.EtcdRequest
	for decoder := json.NewDecoder(file); decoder.More(); {
		var request model.EtcdRequest
		if err := decoder.Decode(&request); err != nil {
			return nil, err
		}
		if request.Txn != nil {
			hashLong(request.Txn.OperationsOnSuccess)
			hashLong(request.Txn.OperationsOnFailure)
		}
		requests = append(requests, request)
	}
	return requests, nil
}

func hashLong(operations []model.EtcdOperation) {
	for i := range operations {
		put := &operations[i].Put
		put.Value = model.ToValueOrHash(put.Value.Value)
	}
}

func keepHistory(folder string, reports []report.ClientReport, result *validate.RobustnessResult) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	encoded, err := json.Marshal(reports)
	if err != nil {
		return err
	}
	if err := os.WriteFile(folder+"/reports.json", encoded, 0o644); err != nil {
		return err
	}
	// Its own Visualize draws only what is right.
	found := result.Linearization
	return porcupine.VisualizePath(found.Model, found.Info, folder+"/history.html")
}

func say(what string, details any) {
	if details == nil {
		fmt.Println(what)
		return
	}
	encoded, err := json.Marshal(details)
	if err != nil {
		fail(err)
	}
	fmt.Println(what, string(encoded))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
