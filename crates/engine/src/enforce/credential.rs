//! Refusals of permitted requests because of a credential in them (SPEC B8, B11).

use std::sync::Arc;

use codex_network_config::CredentialId;
use codex_network_policy::Authority;

use super::flow::Flow;
use super::refusal;
use crate::attempt::Refusal;
use crate::client::Client;
use crate::live_policy::Generation;

/// Refuses a permitted request, also after its answer has begun: a dummy may come late in its content. It keeps
/// the attempt from ending.
#[derive(Clone, Debug)]
pub(crate) struct CredentialRefuser {
    generation: Arc<Generation>,
    authority: Authority,
    flow: Flow,
}

impl CredentialRefuser {
    pub(super) fn new(generation: &Arc<Generation>, authority: &Authority, flow: &Flow) -> Self {
        Self {
            generation: Arc::clone(generation),
            authority: authority.clone(),
            flow: flow.clone(),
        }
    }

    /// The settings under which the request was permitted.
    pub(crate) fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The sender of the request.
    pub(crate) fn client(&self) -> &Client {
        &self.flow.attempt().client
    }

    /// The authority of the request.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The course of the attempt.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Records the refusal, with the credential, and with the part of the request as `detail`.
    pub(crate) fn refuse(&self, credential: &CredentialId, detail: &'static str) -> Refusal {
        let decision = self.generation.policy().decide_unbound_credential();
        let attempt = self.flow.attempt();
        let mut refusal = refusal(attempt, &self.authority, decision, Some(detail));
        refusal.credential = Some(credential.clone());
        let recorder = self.flow.recorder();
        recorder.refused(&self.generation, attempt, &refusal);
        refusal
    }
}
