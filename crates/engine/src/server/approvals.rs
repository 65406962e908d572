//! The engine's side of questions and grants (SPEC Q): people answer within the policy in force.

use std::sync::Arc;

use codex_network_policy::Authority;

use super::Engine;
use crate::approvals::{
    ApprovalError, Approvals, Approver, Asker, Audience, DirectGrant, GrantInfo, GrantRequest,
    QuestionState,
};

impl Engine {
    /// The questions, and the answers to them.
    pub fn approvals(&self) -> &Arc<Approvals> {
        self.shared.enforcer.approvals()
    }

    /// Grants what a question asks for.
    ///
    /// # Errors
    ///
    /// Returns an error if the question is not open, if the policy in force does not leave its destination to
    /// people, or if the request does not fit the client. Then nothing has changed.
    pub fn approve(
        &self,
        id: &str,
        request: GrantRequest,
        by: &Approver,
    ) -> Result<GrantInfo, ApprovalError> {
        let approvals = self.approvals();
        let no_longer = |authority: &Authority| ApprovalError::NotAskable(authority.to_string());
        let mut open = approvals.subjects().into_iter();
        if let Some((id, asker, authority)) = open.find(|(open, ..)| **open == *id)
            && let Some(state) = self.closing(&asker, &authority)
        {
            approvals.close(&id, state);
            return Err(no_longer(&authority));
        }
        let limits = self.current().settings().daemon.approvals;
        let grant = approvals.approve(id, request, by, &limits)?;
        // The session may have ended, or the settings changed, in between.
        self.rejudge_approvals();
        Ok(grant)
    }

    /// Grants a host without a question (SPEC W3).
    ///
    /// # Errors
    ///
    /// Returns an error if the policy in force does not leave the host to people: for one session its own, else the
    /// selected one. Then nothing has changed.
    pub fn grant(&self, direct: &DirectGrant, by: &Approver) -> Result<GrantInfo, ApprovalError> {
        if !self.current().settings().daemon.approvals.enabled {
            return Err(ApprovalError::NotEnabled);
        }
        let asker = match &direct.audience {
            Audience::All => Asker::of_everyone(by.uid),
            Audience::SessionsOf(uid) => Asker::of_sessions(*uid),
            Audience::Session(id) => {
                let session = self.session(id);
                let session =
                    session.ok_or_else(|| ApprovalError::UnknownSession(Arc::clone(id)))?;
                Asker::of_session(&session)
            }
        };
        let host = direct.host.to_string();
        match self.closing(&asker, &direct.authority()) {
            None => {}
            Some(QuestionState::Granted) => return Err(ApprovalError::Allowed(host)),
            Some(_) => return Err(ApprovalError::NotAskable(host)),
        }
        let grant = self.approvals().grant(asker, direct, by)?;
        // The session may have ended, or the settings changed, in between.
        self.rejudge_approvals();
        Ok(grant)
    }

    /// Closes the questions, and ends the grants, that the settings in force do not leave to people (SPEC P11).
    pub(super) fn rejudge_approvals(&self) {
        let approvals = self.approvals();
        for (id, asker, authority) in approvals.subjects() {
            if let Some(state) = self.closing(&asker, &authority) {
                approvals.close(&id, state);
            }
        }
    }

    /// The state in which a question ends now; `None` if the settings in force leave it to people.
    fn closing(&self, asker: &Asker, authority: &Authority) -> Option<QuestionState> {
        // There is no view of a session that has ended.
        let Some(view) = self.view(asker.session()) else {
            return Some(QuestionState::Abandoned);
        };
        let enforcer = &view.0.shared.enforcer;
        if enforcer.is_askable(authority) {
            return None;
        }
        let is_allowed = enforcer.by_lists(authority).is_allow();
        Some(if is_allowed {
            QuestionState::Granted
        } else {
            QuestionState::Abandoned
        })
    }
}
