//! An Indexed Job of Kubernetes (`batch/v1`, `completionMode: Indexed`): each pod is told its index by `JOB_COMPLETION_INDEX`.

use super::{Context, Launcher, RenderedFile, Task, path_of, words};
use crate::error::SweepError;
use crate::launcher_config::KubernetesConfig;
use crate::quote::{kubernetes_argument, yaml};
use crate::sweep::Sweep;

pub(super) struct Kubernetes<'c>(pub(super) &'c KubernetesConfig);

const FILE: &str = "job.yaml";

/// The host name of a pod is the job's name and the index, of at most 63 characters together.
const MAX_NAME: usize = 40;

impl Kubernetes<'_> {
    fn job(&self, sweep: &Sweep, context: &Context) -> String {
        let config = self.0;
        let task = Task::new(&config.task, context);
        let name = &sweep.config().name;
        let short = name[..name.len().min(MAX_NAME)].trim_end_matches('-');
        let job_name = format!("{short}-{}", &sweep.digest().to_string()[..8]);
        let at_a_time = config.max_parallel.unwrap_or(sweep.config().parallel as u64);
        let mut text = format!("apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: {}\n", yaml(&job_name));
        if let Some(namespace) = &config.namespace {
            text.push_str(&format!("  namespace: {}\n", yaml(namespace)));
        }
        text.push_str(&format!(
            "  labels:\n    app.kubernetes.io/name: \"codex-sweep\"\nspec:\n  completionMode: Indexed\n  completions: {}\n  parallelism: {at_a_time}\n  \
             backoffLimitPerIndex: {}\n",
            sweep.n_trials(),
            config.retries
        ));
        // A pod that is evicted has not failed; a configuration that is wrong stays wrong.
        text.push_str(
            "  podFailurePolicy:\n    rules:\n      - action: Ignore\n        onPodConditions:\n          - type: DisruptionTarget\n            \
             status: \"True\"\n      - action: FailIndex\n        onExitCodes:\n          containerName: trial\n          operator: In\n          \
             values: [2]\n",
        );
        text.push_str(&format!(
            "  template:\n    spec:\n      restartPolicy: Never\n      terminationGracePeriodSeconds: 120\n      containers:\n        - name: trial\n          \
             image: {}\n          workingDir: {}\n",
            yaml(&config.image),
            yaml(&task.working_dir)
        ));
        let argv = task.argv("");
        let n_before = task.before.len();
        text.push_str(&format!("          command:\n            - {}\n          args:\n", kubernetes_argument(&argv[0])));
        for (n, word) in argv.iter().enumerate().skip(1) {
            let word = if n == n_before { "\"$(JOB_COMPLETION_INDEX)\"".to_owned() } else { kubernetes_argument(word) };
            text.push_str(&format!("            - {word}\n"));
        }
        let gpus = config.gpus.filter(|n| *n > 0).map(|n| n.to_string());
        let all = [("cpu", config.cpus.clone()), ("memory", config.memory.clone()), ("nvidia.com/gpu", gpus)];
        let resources: Vec<String> =
            all.into_iter().filter_map(|(name, amount)| Some(format!("              {name}: {}\n", yaml(&amount?)))).collect();
        if !resources.is_empty() {
            let list = resources.concat();
            text.push_str(&format!("          resources:\n            requests:\n{list}            limits:\n{list}"));
        }
        if !config.volumes.is_empty() {
            text.push_str("          volumeMounts:\n");
            for (n, volume) in config.volumes.iter().enumerate() {
                text.push_str(&format!("            - name: volume-{n}\n              mountPath: {}\n", yaml(&volume.path)));
            }
            text.push_str("      volumes:\n");
            for (n, volume) in config.volumes.iter().enumerate() {
                let claim = yaml(&volume.claim);
                text.push_str(&format!("        - name: volume-{n}\n          persistentVolumeClaim:\n            claimName: {claim}\n"));
            }
        }
        text
    }
}

impl Launcher for Kubernetes<'_> {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn render(&self, sweep: &Sweep, context: &Context) -> Result<Vec<RenderedFile>, SweepError> {
        Ok(vec![RenderedFile { name: FILE.to_owned(), text: self.job(sweep, context) }])
    }

    fn commands(&self, _: &Sweep, context: &Context) -> Result<Vec<Vec<String>>, SweepError> {
        Ok(vec![[words(&["kubectl", "apply", "-f"]), vec![path_of(context, FILE)]].concat()])
    }
}
