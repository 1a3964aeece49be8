//! TEMPORARY stand-in by the lead so that others compile; the safety helper replaces this file.
#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::allow_attributes, clippy::allow_attributes_without_reason)]
use std::borrow::Cow;
use std::collections::BTreeMap;
use codex_core::*;
use serde::{Serialize,Deserialize};
#[derive(Clone,Copy,Debug,Serialize,Deserialize,PartialEq,Eq)] #[serde(rename_all="snake_case")] pub enum Action{Redact,Flag,Drop,Stop,Off}
#[derive(Clone,Copy,Debug,Serialize,Deserialize,PartialEq,Eq)] #[serde(rename_all="snake_case")] pub enum Category{Secret,PersonalData,Jailbreak}
#[derive(Clone,Debug,Serialize,Deserialize,PartialEq)] #[serde(deny_unknown_fields, default)]
pub struct SafetyConfig{pub secrets:Action,pub personal_data:Action,pub jailbreak:Action,pub allow:Vec<String>,pub max_text_bytes:usize}
impl Default for SafetyConfig{fn default()->Self{Self{secrets:Action::Redact,personal_data:Action::Redact,jailbreak:Action::Flag,allow:vec![],max_text_bytes:1<<30}}}
impl SafetyConfig{pub fn problems(&self)->Vec<(String,String)>{vec![]}}
#[derive(Default,Clone,Debug,Serialize,Deserialize,PartialEq)] pub struct Tally{pub texts:u64,pub kept:u64,pub redacted:u64,pub dropped:u64,pub stopped:u64,pub rules:BTreeMap<String,u64>}
pub enum Verdict<'t>{Keep(Cow<'t,str>),Drop{rules:Vec<String>},Stop{rules:Vec<String>}}
#[derive(Debug,Clone,Serialize)] pub struct Finding{pub rule:String,pub category:Category,pub start:usize,pub end:usize,pub line:usize,pub column:usize,pub digest:Digest}
#[derive(Debug)] pub struct Redacted<'t>{pub text:Cow<'t,str>,pub findings:Vec<Finding>}
#[derive(Debug,Serialize)] pub struct RuleInfo{pub id:String,pub category:Category,pub description:String}
pub fn rules()->Vec<RuleInfo>{vec![]}
#[derive(Debug)] pub struct Scanner; #[derive(Debug,thiserror::Error)] #[error("x")] pub struct SafetyError;
impl Failure for SafetyError{fn exit_class(&self)->ExitClass{ExitClass::Usage}}
impl Scanner{pub fn new(_:&SafetyConfig)->Result<Self,SafetyError>{Ok(Self)} pub fn scan(&self,_:&str)->Vec<Finding>{vec![]} pub fn redact<'t>(&self,t:&'t str)->Redacted<'t>{Redacted{text:t.into(),findings:vec![]}} pub fn apply<'t>(&self,t:&'t str,tally:&mut Tally)->Verdict<'t>{tally.texts+=1;tally.kept+=1;Verdict::Keep(t.into())}}
